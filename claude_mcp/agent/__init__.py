"""The session's main process, which runs inside the container.

It uses only the standard library of Python 3.9 or later, and of this package only ``claude``,
``contract`` and ``placing``. The code travels with the container (see
``sessions/channel/payload.py``), so it need not be installed in the image.
"""
