from types import TracebackType

class Native:
    def __enter__(self) -> Native: ...
    def __exit__(
        self, type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool: ...

native: Native

def kernel_seconds() -> float: ...
