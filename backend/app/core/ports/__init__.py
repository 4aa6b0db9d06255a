"""What the application needs from outside, as protocols: adapters implement them, the bootstrap chooses."""

from app.core.ports.agent import IAgent, ITurnRecorder, Turn
from app.core.ports.commands import IRunCommands, NoOtherProcess
from app.core.ports.gateway import Count, IModelGateway
from app.core.ports.llm import (
    IAnswerSink,
    IChatModel,
    IFragmentSink,
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
from app.core.ports.usage import IUsageRepository, UsageRow

__all__ = [
    "Acceptance",
    "Accepted",
    "ConversationPage",
    "Count",
    "EventsGone",
    "IAgent",
    "IAnswerSink",
    "IChatModel",
    "IConversationRepository",
    "IFragmentSink",
    "ILLMProvider",
    "IMessageRepository",
    "IModelCatalog",
    "IModelGateway",
    "IRunCommands",
    "IRunFeed",
    "IRunLog",
    "IRunRepository",
    "ITurnRecorder",
    "IUsageRepository",
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
    "UsageRow",
]
