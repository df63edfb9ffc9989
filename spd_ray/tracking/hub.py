"""A student on the Hugging Face Hub: the checkpoint with its model card, and its packed copy beside it.

The hub is only written to here, by huggingface_hub, with the token that `hf auth login` or HF_TOKEN gives. Whatever it
refuses leaves the checkpoint on disk as it was.

Why so: docs/decisions.md #pushed-when-all-is-done.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spd_ray.base.cache import SUMS, check_sums, write_sums
from spd_ray.base.errors import UserError
from spd_ray.base.installation import own_command
from spd_ray.tracking.model_card import card_on_hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PACKED = "packed"  # the packed copy's folder in the repository
CARD = "README.md"


def check_hub(repo: str) -> None:
    """Ask the hub, within seconds and without changing anything there, whether this user may write to `repo`.

    Raises UserError: no OWNER/NAME, no token, one that may only read, another's namespace, no answer.
    """
    with _refusals(repo):
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(repo)
        owner, slash, _ = repo.partition("/")
        if not slash:
            raise UserError(f"{repo}: OWNER/NAME is needed, such as your-name/{repo}")
        if get_token() is None:
            raise UserError(f"{repo}: the hub wants a token: type `hf auth login`, or set HF_TOKEN")
        who = HfApi().whoami()
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise UserError(f"{repo}: the token may only read; one that may write is needed")
    owners = [who["name"], *(organization["name"] for organization in who.get("orgs", []))]
    if owner not in owners:
        raise UserError(f"{repo}: the token is of {', '.join(owners)}, who may not write there")


def push_checkpoint(folder: Path, repo: str, *, packed: bool) -> str:
    """Push the checkpoint in `folder` to `repo`, which is made, private, where it is not there; returns its address.

    The repository's card says how to load it from there. `packed` puts what `python -m spd_ray.deploy` makes of it into
    the repository's folder `packed`. One commit holds all of it. Raises UserError for whatever keeps it from that.
    """
    _check_checkpoint(folder)
    with tempfile.TemporaryDirectory() as temporary, _refusals(repo):
        from huggingface_hub import HfApi
        from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        _lay_out(folder, Path(temporary), repo, packed)
        silent = are_progress_bars_disabled()
        disable_progress_bars()
        try:
            return _upload(HfApi(), Path(temporary), repo, f"{folder.name}, pruned by spd_ray")
        finally:
            if not silent:
                enable_progress_bars()


def push_command(checkpoint: str, repo: str) -> str:
    """What pushes a checkpoint from a shell."""
    return own_command("spd_ray.push", checkpoint, "--to", repo)


def _check_checkpoint(folder: Path) -> None:
    for name in ("config.json", CARD, SUMS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}; a checkpoint that a sweep has kept to its end is needed")
    try:
        check_sums(folder)
    except ValueError as error:
        raise UserError(str(error)) from None


def _lay_out(folder: Path, to: Path, repo: str, packed: bool) -> None:
    """The repository's files in `to`: links to those that the checkpoint's sums name, but for the card."""
    for line in (folder / SUMS).read_text().splitlines():
        name = line.split("  ", 1)[1]
        (to / name).symlink_to((folder / name).resolve())
    card = (to / CARD).read_text()
    (to / CARD).unlink()
    (to / CARD).write_text(card_on_hub(card, repo, PACKED if packed else None))
    write_sums(to)
    if packed:
        from spd_ray.kernels.packed import pack_model  # here, for it imports torch
        from spd_ray.training.checkpoint import load_checkpoint

        pack_model(load_checkpoint(folder), folder, to / PACKED)


def _upload(api: "HfApi", folder: Path, repo: str, message: str) -> str:
    address = api.create_repo(repo, private=True, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=f"{PACKED}/*")
    return str(address)


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """Whatever the hub, its client or the network raises becomes a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the errors of the HTTP client of the day among them
        reason = " ".join((getattr(error, "server_message", None) or str(error)).split())[:300]
        status = getattr(getattr(error, "response", None), "status_code", None)
        answer = "" if status is None else f" (HTTP {status})"
        raise UserError(f"{repo}: the hub does not take it: {reason or type(error).__name__}{answer}") from None
