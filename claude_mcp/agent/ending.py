"""How the container's main process ends with an exit code that the host reads later.

An engine may start a container again that ends with any code but 0. There the code is left in a
file that the engine reads, and the container ends with 0.
"""

import os

from claude_mcp.contract import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def end(code: int) -> "NoReturn":
    path = os.environ.get(places.EXIT_FILE_VARIABLE)
    if path:
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(code))
            code = 0
        except OSError:
            pass  # the engine starts the container again, and it ends again
    os._exit(code)
