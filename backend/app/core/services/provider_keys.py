"""Keys of providers: a key is stored once its provider has accepted it."""

from app.core.domain.errors import KeyRefused, KeyUnchecked
from app.core.ports import IModelCatalog, IProviderKeys


async def store_key(
    keys: IProviderKeys, catalog: IModelCatalog, provider: str, key: str, *, unchecked: bool = False
) -> str | None:
    """Ask the provider whether it accepts the key, and store it then. Otherwise an earlier key stays as it is.

    Args:
        unchecked: store the key as well where the provider cannot be asked.

    Returns:
        Why the key could not be checked, where it was stored all the same.

    Raises:
        UnknownModel: there is no such provider.
        InvalidFrame: the text cannot be a key.
        KeyRefused: the provider does not accept it.
        KeyUnchecked: the provider cannot be asked, and the key is not to be stored then.
        StorageUnavailable: it cannot be stored.
    """
    keys.check(provider)
    keys.check_form(key)
    problem = None
    try:
        await catalog.try_key(provider, key)
    except KeyRefused as error:
        raise KeyRefused(f"{error.message} It was not stored. Check it, and enter it again.") from error
    except KeyUnchecked as error:
        if not unchecked:
            raise KeyUnchecked(f"{error.message} The key could not be checked and was not stored.") from error
        problem = f"{error.message} The key was stored without a check."
    keys.set(provider, key)
    return problem
