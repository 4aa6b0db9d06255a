"""What can go wrong with ComfyUI. On the wire these have the codes of a provider's errors, which they are much like."""

from typing import Any

from app.core.domain.errors import AtelierError


class WorkflowRefused(AtelierError):
    """ComfyUI does not take a workflow.

    Attributes:
        node_errors: what is wrong, by node id: `[{message, input}]` each.
    """

    code = "provider_rejected"

    def __init__(self, message: str, node_errors: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.node_errors = node_errors or {}


class WorkflowFailed(WorkflowRefused):
    """ComfyUI could not run a workflow to its end."""


class RunnerUnavailable(AtelierError):
    """ComfyUI cannot be reached."""

    code = "provider_unavailable"
    retryable = True


class RunnerTimeout(AtelierError):
    """ComfyUI takes longer than is waited for."""

    code = "provider_timeout"
    retryable = True
