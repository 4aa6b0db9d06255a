"""Which model answers: the one that is named, else the conversation's, else the default."""

from app.core.domain.conversation import Conversation
from app.core.domain.errors import AtelierError
from app.core.ports import IModelCatalog


def next_model(catalog: IModelCatalog, conversation: Conversation | None) -> str:
    """The model that answers next where none is named."""
    return (conversation.model if conversation is not None else None) or catalog.default


def choose_model(
    catalog: IModelCatalog, conversation: Conversation | None, named: str | None = None, *, tools: bool = False
) -> str:
    """The model of a turn.

    Raises:
        UnknownModel, ProviderNotConfigured, ProviderRejected: it cannot be asked, or cannot use tools.
    """
    model = named or next_model(catalog, conversation)
    try:
        return catalog.check(model, tools=tools)
    except AtelierError as error:
        if named is None and conversation is not None and conversation.model is not None:
            error.message = (
                f"This conversation uses {model}. {error.message} Or choose another model for the conversation."
            )
        raise
