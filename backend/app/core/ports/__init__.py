"""What the application needs from outside, as protocols: adapters implement them, the bootstrap chooses."""

from app.core.ports.agent import IAgent, ITurnRecorder, Turn
from app.core.ports.commands import IRunCommands, NoOtherProcess
from app.core.ports.llm import (
    IAnswerSink,
    IChatModel,
    ILLMProvider,
    IModelCatalog,
    ModelFacts,
    ModelInfo,
    ModelList,
    ProviderInfo,
)
from app.core.ports.repositories import (
    Acceptance,
    Accepted,
    ConversationPage,
    IConversationRepository,
    IMessageRepository,
    IRunRepository,
    Lease,
    Place,
    Step,
    Store,
)
from app.core.ports.run_log import EventsGone, IRunFeed, IRunLog

__all__ = [
    "Acceptance",
    "Accepted",
    "ConversationPage",
    "EventsGone",
    "IAgent",
    "IAnswerSink",
    "IChatModel",
    "IConversationRepository",
    "ILLMProvider",
    "IMessageRepository",
    "IModelCatalog",
    "IRunCommands",
    "IRunFeed",
    "IRunLog",
    "IRunRepository",
    "ITurnRecorder",
    "Lease",
    "ModelFacts",
    "ModelInfo",
    "ModelList",
    "NoOtherProcess",
    "Place",
    "ProviderInfo",
    "Step",
    "Store",
    "Turn",
]
