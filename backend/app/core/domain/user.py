"""A user: whoever owns conversations, runs and files."""

from pydantic import BaseModel


class User(BaseModel):
    """Somebody who proved who they are."""

    id: str
    name: str


LOCAL_USER = User(id="local", name="local")
"""The one user of an installation without accounts."""
