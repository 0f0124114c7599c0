"""The Hugging Face hub: whether it can be reached, and its data sets and models as local files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import get_session

from gzlib.errors import UserError

SECONDS = 5.0


def hub_reachable() -> bool:
    """True if the hub answers within a few seconds; its own client would retry for a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # name resolution, proxies, certificates: each client version has its own types
        return False
    return True


@contextmanager
def offline_unless(reachable: bool) -> Iterator[None]:
    """Let the hub's client use nothing but its cache while the hub cannot be reached."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def download(repository: str, config: str | None = None) -> list[Path]:
    """Parquet files of a hub data set: ``data/*.parquet``, or those of a config's folder.

    What has been downloaded before is used without the hub.

    Raises
    ------
    UserError
        If the hub cannot be reached or refuses, saying which local source can be used instead.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    instead = "give a folder of its parquet files as PATH instead, or simulate galaxies with sim:20000"
    pattern = f"{config}/*.parquet" if config else "data/*.parquet"
    try:
        offline = not hub_reachable()
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=[pattern], local_files_only=offline)
    except LocalEntryNotFoundError:
        raise UserError(f"The Hugging Face hub could not be reached for data set '{repository}'; {instead}.") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "with an error")
        raise UserError(
            f"The Hugging Face hub answered {status} for data set '{repository}' (misspelt, or its terms must be"
            f" accepted and `hf auth login` run); {instead}."
        ) from None
    except Exception as error:  # a connection lost half-way: each version of the client has its own types
        raise UserError(f"Data set '{repository}' could not be downloaded ({error}); {instead}.") from None
    files = sorted(Path(folder).glob(pattern))
    if not files:
        raise UserError(f"Hub data set '{repository}' has no files '{pattern}'; name another config or {instead}.")
    return files


@lru_cache(maxsize=16)  # every key of a run asks for it
def model_files(repository: str) -> tuple[Path, Path]:
    """``config.json`` and the weights of a repository in timm's format; what was downloaded before needs no hub.

    Raises
    ------
    UserError
        If there is no such repository, it is of another kind, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")

    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision or None))

    with offline_unless(hub_reachable()):
        try:
            config = get("config.json")
            try:
                return config, get("model.safetensors")
            except EntryNotFoundError:
                return config, get("pytorch_model.bin")
        except LocalEntryNotFoundError:
            raise UserError(
                f"The hub with 'hf_hub:{repository}' could not be reached, and it was not downloaded before; download"
                " it elsewhere and name its folder, or start from 'sky', which is in this package."
            ) from None
        except EntryNotFoundError:
            raise UserError(
                f"'hf_hub:{repository}' is no repository of timm's: it needs config.json and model.safetensors or"
                " pytorch_model.bin."
            ) from None
        except HFValidationError:
            raise UserError(f"'hf_hub:{repository}' is no name of a repository; write hf_hub:OWNER/NAME.") from None
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "with an error")
            raise UserError(
                f"The hub answered {status} for 'hf_hub:{repository}' (misspelt, or its terms must be accepted and"
                " `hf auth login` run)."
            ) from None
        except Exception as error:  # a connection lost half-way: each version of the client has its own types
            raise UserError(
                f"'hf_hub:{repository}' could not be downloaded ({type(error).__name__}: {error})."
            ) from None
