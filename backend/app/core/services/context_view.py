"""What the next call of a model would send, and what each part of it costs."""

from typing import Any

from app.core.domain.conversation import Conversation
from app.core.domain.event import to_json
from app.core.domain.message import MessageRole
from app.core.domain.user import User
from app.core.ports import IAgent, IModelCatalog, Store, Turn
from app.core.services.context import context_budget, estimate_tokens, load_context, text_tokens
from app.core.services.model_choice import choose_model
from app.core.services.prompt import PromptService, join
from app.core.services.run_limits import RunLimits


class ContextView:
    """Shows contexts, and sends nothing."""

    def __init__(
        self, store: Store, agent: IAgent, catalog: IModelCatalog, prompts: PromptService, limits: RunLimits
    ) -> None:
        self._store = store
        self._agent = agent
        self._catalog = catalog
        self._prompts = prompts
        self._limits = limits

    async def of(
        self,
        user: User,
        conversation: Conversation,
        *,
        model: str | None = None,
        client_tools: tuple[str, ...] = (),
        skill: str | None = None,
    ) -> dict[str, Any]:
        """The next call of `conversation`, without the message that would begin it.

        Raises:
            UnknownModel, ProviderNotConfigured: the model cannot be asked here.
            NotFound: there is no such skill.
        """
        name = choose_model(self._catalog, conversation, model, tools=bool(client_tools))
        if skill is not None:
            await self._prompts.check_skill(user, skill)
        budget = context_budget(self._limits.context_tokens, self._catalog.facts(name))
        parts = await self._prompts.parts(user, conversation, budget=budget, client_tools=client_tools, skill=skill)
        history = await load_context(self._store.messages, conversation, prompt=join(parts), budget=budget)
        turn = Turn(
            run_id="",
            conversation_id=conversation.id,
            user_id=user.id,
            model=name,
            history=history,
            client_tools=client_tools,
            policy=self._limits.policy(conversation.tool_approval, client_tools),
            has_skills=await self._prompts.has_skills(user),
            budget=budget,
        )
        preview = await self._agent.preview(turn)
        said = [message for message in history if message.role is not MessageRole.SYSTEM or message.seq is not None]
        oldest = said[0].seq if said else None
        tools: list[dict[str, Any]] = [
            {"name": tool["function"]["name"], "tokens": text_tokens(to_json(tool)), "declaration": tool}
            for tool in preview.tools
        ]
        messages_tokens = sum(map(estimate_tokens, said))
        return {
            "model": name,
            "budget": budget,
            "tokens": sum(part.tokens for part in parts) + messages_tokens + sum(tool["tokens"] for tool in tools),
            "parts": [{"name": part.name, "tokens": part.tokens, "text": part.text} for part in parts],
            "tools": tools,
            "messages": preview.messages,
            "messages_tokens": messages_tokens,
            "oldest_seq": oldest,
        }
