"""Uploads a folder to the Hugging Face hub, and tells every reason against it in one line without secrets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from stp.errors import fail


def require_name(name: str) -> None:
    """Refuses what is not `<user or organisation>/<name>`."""
    try:
        validate_repo_id(name)
        whole = name.count("/") == 1
    except HFValidationError:
        whole = False
    if not whole:
        fail("push", name, "a place on the hub is <user or organisation>/<name>, of letters, digits, -, _ and .")


def require_access(name: str) -> None:
    """Refuses, before any long work, a machine without a token or without a way to the hub."""
    _asked(name, lambda api: api.whoami(), "")


def upload(folder: Path, name: str) -> str:
    """Uploads a folder's files, to a new place or over an earlier upload. Returns its address."""
    done = f"the export is whole in {folder}; `hf upload {name} {folder}` uploads it later"

    def work(api: Any) -> str:
        address = str(api.create_repo(name, exist_ok=True))
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Upload {folder.name}")
        return address

    return _asked(name, work, f"; {done}")


def _asked(name: str, work: Callable[[Any], Any], advice: str) -> Any:
    """Calls `work` with the hub's interface. Raises UserError of one line for every failure."""
    token = get_token()
    try:
        if token is None:
            raise LocalTokenNotFoundError
        return work(HfApi(token=token))
    except LocalTokenNotFoundError:
        rule = "no token for the hub is here; log in with `hf auth login`, or set HF_TOKEN"
    except OfflineModeIsEnabled:
        rule = "HF_HUB_OFFLINE is set; unset it to reach the hub"
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        refused = f"the hub refuses it ({code}); the token must be allowed to write to {name}"
        rule = refused if code in (401, 403) else f"the hub answers with an error ({_line(error, token)})"
    except Exception as error:  # a network fails in many ways
        rule = f"the hub cannot be reached ({_line(error, token)})"
    fail("push", name, rule + advice)


def _line(error: Exception, token: str | None) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text.replace(token, '…') if token else text:.200}"
