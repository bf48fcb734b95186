"""The compiled link emulator. What its functions do is said in `src/*.h`; cffi checks their arguments at run time."""

from typing import Any

ffi: Any
lib: Any
