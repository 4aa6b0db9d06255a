"""Which rule decides whether a tool needs approval."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.core.domain.declared_tools import DECLARED_TOOLS, DEFAULT_APPROVALS
from app.core.domain.tool import Approval, ApprovalPolicy
from app.core.domain.workflow import ToolDefinition, WorkflowTool
from app.core.services.approvals import DefaultApprovals
from app.core.services.run_limits import RunLimits
from app.settings import Settings

AUTO, ASK, DENY = Approval.AUTO, Approval.ASK, Approval.DENY
DEFAULTS = {"asks": ASK, "denied": DENY}


@pytest.mark.parametrize(
    ("conversation", "setting", "asks", "runs", "denied"),
    [
        ({}, "", ASK, AUTO, DENY),
        ({}, "auto", ASK, AUTO, DENY),
        ({}, " AUTO ", ASK, AUTO, DENY),
        ({}, "*=auto", AUTO, AUTO, DENY),
        ({}, "ask", ASK, ASK, DENY),
        ({}, "deny", DENY, DENY, DENY),
        ({}, "asks=auto,denied=ask", AUTO, AUTO, ASK),
        ({}, "*=auto,asks=ask", ASK, AUTO, DENY),
        ({"*": "auto"}, "", AUTO, AUTO, DENY),
        ({"*": "auto"}, "ask", AUTO, AUTO, DENY),
        ({"*": "auto"}, "asks=deny", DENY, AUTO, DENY),
        ({"*": "ask"}, "*=auto,runs=auto", ASK, AUTO, DENY),
        ({"asks": "auto"}, "asks=deny", AUTO, AUTO, DENY),
        ({"runs": "ask", "*": "deny"}, "*=auto", DENY, ASK, DENY),
        ({"denied": "auto"}, "deny", DENY, DENY, AUTO),
    ],
)
def test_the_most_specific_rule_decides(
    conversation: dict[str, Any], setting: str, asks: Approval, runs: Approval, denied: Approval
):
    rules = {name: Approval(policy) for name, policy in conversation.items()}
    settings = Settings(_env_file=None, tool_approval=setting).tool_approval
    policy = ApprovalPolicy(settings, rules, defaults=DEFAULTS)
    assert [policy.of(name) for name in ("asks", "runs", "denied")] == [asks, runs, denied]


def test_a_tool_that_asks_is_denied_where_nobody_can_be_asked():
    policy = ApprovalPolicy({}, {}, can_ask=False, defaults=DEFAULTS)
    assert policy.of("asks") is DENY


def test_defaults_are_not_for_tools_that_clients_run():
    limits = RunLimits(default_approval=lambda: DEFAULT_APPROVALS)
    assert limits.policy({}).of("executeWorkflow") is ASK
    assert limits.policy({}, ["executeWorkflow"]).of("executeWorkflow") is AUTO
    assert limits.policy({"executeWorkflow": ASK}, ["executeWorkflow"]).of("executeWorkflow") is ASK


def test_what_spends_deletes_or_lasts_asks_by_default():
    asking = {name for name, tool in DECLARED_TOOLS.items() if tool.approval is ASK}
    assert asking == {
        *("createSkill", "updateSkill", "deleteSkill", "executeWorkflow", "applyWorkflowJson", "cancelJob"),
    }


def test_the_documentation_has_the_default_of_each_tool():
    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    rows = [line.split("|") for line in text.partition("### Which tools need approval")[2].splitlines() if "|" in line]
    documented = {name: row[2].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    for name, tool in DECLARED_TOOLS.items():
        assert documented[name].startswith(f"`{tool.approval.value}`"), name


def test_workflow_tools_that_cost_money_ask():
    def tool(name: str, node: str) -> WorkflowTool:
        return WorkflowTool(ToolDefinition(name=name), {"1": {"class_type": node, "inputs": {}}})

    tools = {"free": tool("free", "KSampler"), "paid": tool("paid", "FluxProNode")}
    info: dict[str, Any] = {}
    defaults = DefaultApprovals(lambda: tools, lambda: info, lambda: {"wiki__read": ASK})
    assert "paid" not in defaults()
    info = {"KSampler": {}, "FluxProNode": {"api_node": True}}
    assert {name for name, policy in defaults().items() if policy is ASK} == {
        *DEFAULT_APPROVALS,
        *("paid", "wiki__read"),
    }
