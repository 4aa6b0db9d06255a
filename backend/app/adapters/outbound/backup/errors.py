"""Why a backup cannot be taken or restored."""

from app.core.domain.errors import AtelierError


class BackupFailed(AtelierError):
    """A backup that cannot be taken or restored; nothing has changed."""

    code = "backup_failed"
