"""Makes bundles for machines without a network, and keeps the versions in them pinned.

``scripts/bundle``, ``scripts/update-pins`` and ``scripts/build-offline`` run this: standard library
only. What a bundle installs itself with is ``bundle_installer``.
"""
