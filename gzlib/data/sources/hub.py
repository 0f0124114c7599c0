"""Data sets of the Hugging Face hub, downloaded to its own cache; read like any folder of parquet."""

from pathlib import Path

from gzlib.data.hub import hub_reachable
from gzlib.errors import UserError


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
