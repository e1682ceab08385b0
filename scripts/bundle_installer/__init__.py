"""What a bundle brings to install itself with; ``scripts/bundle`` packs it as ``installer.pyz``.

It runs where there is no network, on Python 3.11 or later with nothing installed: standard library
only. The rule: a bundle is hostile until it is verified, and nothing is installed before that.
"""
