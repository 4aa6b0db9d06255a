"""Tools: where a call runs, and whether somebody must agree to it first."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ALL_TOOLS = "*"


class Executor(StrEnum):
    """Who runs a tool."""

    SERVER = "server"
    CLIENT = "client"


class Approval(StrEnum):
    """Whether a tool may run: at once, when the user agrees, or never."""

    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class CallTraits:
    """What a client is told of a call beside its name and arguments."""

    executor: Executor = Executor.SERVER
    needs_approval: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """Which tools need approval.

    The first rule that applies counts: the tool's name in the conversation, its name in the settings, `*` in the
    conversation, `*` in the settings, the tool's default. A rule for `*` does not lift a default of `deny`.

    Attributes:
        can_ask: whether there is somebody to ask; else what needs approval may not run.
        defaults: what tools need by default; those that are missing run at once.
    """

    settings: Mapping[str, Approval]
    conversation: Mapping[str, Approval]
    can_ask: bool = True
    defaults: Mapping[str, Approval] = field(default_factory=dict[str, Approval])

    def of(self, name: str) -> Approval:
        """The policy of the tool `name`."""
        policy = self._rule(name)
        return Approval.DENY if policy is Approval.ASK and not self.can_ask else policy

    def traits(self, name: str, client_tools: Collection[str]) -> CallTraits:
        """Where a call of the tool `name` runs, and whether it needs approval."""
        executor = Executor.CLIENT if name in client_tools else Executor.SERVER
        return CallTraits(executor, self.of(name) is Approval.ASK)

    def _rule(self, name: str) -> Approval:
        default = self.defaults.get(name, Approval.AUTO)
        for rules in (self.conversation, self.settings):
            if name in rules:
                return rules[name]
        for rules in (self.conversation, self.settings):
            if ALL_TOOLS in rules and default is not Approval.DENY:
                return rules[ALL_TOOLS]
        return default
