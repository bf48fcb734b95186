"""The compiled data plane of the IPCPs. What its functions do is said in `src/*.h` and `ouroboros/dataplane/src/*.h`; cffi checks their arguments at run time."""

from typing import Any

ffi: Any
lib: Any
