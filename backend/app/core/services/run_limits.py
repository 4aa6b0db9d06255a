"""The bounds of runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from app.core.domain.tool import Approval, ApprovalPolicy


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The bounds of runs.

    Attributes:
        context_tokens: how much of a conversation a model is sent.
        lease: how long a process may be silent before another one takes its runs over.
        store_patience: seconds that a finished step waits for a store that is away.
        max_runs: turns that this process drives at once.
        max_queued: runs accepted by this process that wait behind others at once.
        tool_approval: which tools need approval, where a conversation does not say otherwise.
        default_approval: what tools of the server need by default, as it is now.
    """

    context_tokens: int = 32_000
    lease: timedelta = timedelta(seconds=30)
    store_patience: float = 30.0
    max_runs: int = 1_000
    max_queued: int = 1_000
    tool_approval: Mapping[str, Approval] = field(default_factory=dict[str, Approval])
    default_approval: Callable[[], Mapping[str, Approval]] = dict[str, Approval]

    def policy(
        self, rules: Mapping[str, Approval], client_tools: Collection[str] = (), *, can_ask: bool = True
    ) -> ApprovalPolicy:
        """Which tools need approval now, in a turn that has rules of its own.

        Defaults are those of the server's tools: what a client runs is in its own user's hands.
        """
        defaults = {name: policy for name, policy in self.default_approval().items() if name not in client_tools}
        return ApprovalPolicy(self.tool_approval, rules, can_ask=can_ask, defaults=defaults)
