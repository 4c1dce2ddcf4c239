"""A model onto the Hugging Face Hub. Only where the user asks for it, with the user's own token."""

from pathlib import Path
from typing import Any

from dist_gan import __version__
from dist_gan.errors import ConfigError, InputOutputError
from dist_gan.run.handed_on import HUB_NAME, config_of, is_handed_on


def check_push(name: str) -> None:
    """Raises ConfigError where `name` is not `user/name`, the client is missing, or there is no token."""
    if HUB_NAME.fullmatch(name) is None:
        raise ConfigError(f"push: expected user/name, got {name!r}")
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise ConfigError("push: needs the Hugging Face Hub's client: pip install huggingface_hub") from None
    if get_token() is None:
        raise ConfigError("push: there is no token for the Hugging Face Hub. Log in (hf auth login), or set HF_TOKEN")


def push_to_hub(folder: str | Path, name: str, *, private: bool = True) -> str:
    """Upload a model's folder as the repository `user/name`, which is created where there is none.

    Args:
        folder: that `export` wrote.
        name: `user/name` or `organization/name`.
        private: whether a new repository is private; an existing one stays as it is.

    Returns:
        Its address.

    Raises:
        ConfigError: `folder` is none, or as `check_push`.
        InputOutputError: the Hub refuses, or cannot be reached. What is in the folder stays.
    """
    folder = Path(folder)
    if not is_handed_on(folder):
        raise ConfigError(f"{folder} is no model to push. Write one first: python -m dist_gan.export RUN out={folder}")
    check_push(name)
    from huggingface_hub import HfApi

    api: Any = HfApi(library_name="dist_gan", library_version=__version__)
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        seen = config_of(folder).images_seen
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"A generator after {seen:,} images")
    except Exception as error:  # which class it is depends on the client's version and on what lies below it
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputOutputError(
            f"push: {folder} is not on the Hugging Face Hub as {name} ({reason}). The folder is complete; try again "
            f"with: python -m dist_gan.export {folder} push={name} private={str(private).lower()}"
        ) from None
    return str(address)
