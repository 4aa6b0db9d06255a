"""What can go wrong, one class a kind, each with the code that every wire shows.

A message says what happened and what to do next. It never holds a key, a path, a stack trace or another
user's data: it is shown to people as it stands.
"""

from typing import Any, ClassVar


class AtelierError(Exception):
    """The base of every error that a client may see.

    Attributes:
        code: the word for it on the wire (docs/protocol.md).
        retryable: whether the same request may succeed later, unchanged.
        message: a sentence for a person.
        retry_after: seconds to wait before trying again, where that is known.
    """

    code: ClassVar[str] = "internal"
    retryable: bool = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def to_wire(self) -> dict[str, Any]:
        """The error as it stands in an `error` frame and in a run: `code`, `message`, `retryable`."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


class InvalidFrame(AtelierError):
    """A frame or body that is not JSON, or not of the shape it should have."""

    code = "invalid_frame"


class UnknownType(AtelierError):
    """A frame whose `type` this service does not know."""

    code = "unknown_type"


class EmptyInput(AtelierError):
    """A message without anything in it."""

    code = "empty_input"


class TooLarge(AtelierError):
    """More than a limit allows: a frame, a body, a message."""

    code = "too_large"


class RequestTimeout(AtelierError):
    """A request that did not arrive in time."""

    code = "request_timeout"
    retryable = True


class Unauthenticated(AtelierError):
    """No credential, or one that is not valid."""

    code = "unauthenticated"


class Forbidden(AtelierError):
    """A request from an origin or for a host that is not allowed."""

    code = "forbidden"


class UnsupportedMediaType(AtelierError):
    """A body of a media type that is not taken."""

    code = "unsupported_media_type"


class NotFound(AtelierError):
    """Nothing of that id, or nothing that this user may know of."""

    code = "not_found"


class ConversationBusy(AtelierError):
    """The conversation has a run, and the client asked to be refused then."""

    code = "conversation_busy"
    retryable = True


class MessageConflict(AtelierError):
    """A message id that another message has already."""

    code = "message_conflict"


class UnknownModel(AtelierError):
    """A model name that no provider here answers to."""

    code = "unknown_model"


class ProviderNotConfigured(AtelierError):
    """A provider whose key or address is missing."""

    code = "provider_not_configured"


class KeyRefused(AtelierError):
    """A provider does not accept the key that was entered for it."""

    code = "key_refused"


class KeyUnchecked(AtelierError):
    """A key could not be checked, since its provider could not be asked."""

    code = "key_unchecked"
    retryable = True


class ProviderRateLimited(AtelierError):
    """The provider asks to come back later."""

    code = "provider_rate_limited"
    retryable = True


class ProviderUnavailable(AtelierError):
    """The provider cannot be reached, failed, or cut its answer short."""

    code = "provider_unavailable"
    retryable = True


class ProviderTimeout(AtelierError):
    """The provider did not answer, or stopped answering, within the time limits."""

    code = "provider_timeout"
    retryable = True


class ProviderRejected(AtelierError):
    """The provider refuses the request as it is."""

    code = "provider_rejected"


class ContextTooLong(AtelierError):
    """The conversation is longer than the model takes."""

    code = "context_too_long"


class ToolLoopLimit(AtelierError):
    """The model asked for tools again and again without coming to an answer."""

    code = "tool_loop_limit"


class StorageUnavailable(AtelierError):
    """The store cannot be read or written; what was asked for is not kept."""

    code = "storage_unavailable"
    retryable = True
    may_pass: ClassVar[bool] = True
    """Whether it may pass by itself, as a lost connection does, so that waiting for a while makes sense."""


class StorageRefused(StorageUnavailable):
    """The store can be reached and takes no writes: its disk is full, read-only or failing."""

    may_pass = False


class StorageLost(StorageUnavailable):
    """A step could not be stored in time: the run is left to whoever claims it when the store is back.

    Control flow inside the engine: listeners are told with a notice, and nothing final.

    Attributes:
        reason: why it could not be stored.
    """

    def __init__(self, reason: StorageUnavailable) -> None:
        super().__init__(reason.message)
        self.reason = reason


class StorageDamaged(StorageUnavailable):
    """The store's file is damaged: trying again does not help, a backup does."""

    code = "storage_damaged"
    retryable = False


class SearchTooBroad(AtelierError):
    """A search that matches more than can be looked through in its time."""

    code = "search_too_broad"

    def __init__(self) -> None:
        super().__init__("That matches too much to search in time. Be more specific: use more or longer words.")


class RateLimited(AtelierError):
    """Too much at once for this service."""

    code = "rate_limited"
    retryable = True


class ShuttingDown(AtelierError):
    """The service finishes what it is doing and takes nothing new."""

    code = "shutting_down"
    retryable = True

    def __init__(self) -> None:
        super().__init__("The service is shutting down. Try again in a moment, once it is back.", retry_after=5)


class Internal(AtelierError):
    """A fault of this service; its log has the details under the run's id."""

    code = "internal"
    retryable = True


class Interrupted(AtelierError):
    """The service was interrupted too often while it worked on an answer."""

    code = "interrupted"
    retryable = True


class LeaseLost(AtelierError):
    """This process no longer owns the run it tried to write for; another one has taken it over.

    Control flow inside the engine: no client ever sees it.
    """


def describe(error: BaseException) -> AtelierError:
    """The error to show for `error`: itself where it is ours, else an `Internal` that gives nothing away."""
    if isinstance(error, AtelierError):
        return error
    return Internal("Something went wrong in the service. Its log has the details; please try again.")
