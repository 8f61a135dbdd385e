"""What one document says, as a pydantic model: jobflow's JobStoreDocument."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

_NOTHING: Any = None
"""As in jobflow, every field may be left out, and says nothing then."""


class JobStoreDocument(BaseModel):
    """The document of one outcome of a job."""

    uuid: str = Field(_NOTHING, description="An unique identifier for the job. Generated automatically.")
    index: int = Field(_NOTHING, description="The index of the job (number of times the job has been replaced).")
    output: Any = Field(_NOTHING, description="This is a reference to the future job output.")
    completed_at: str = Field(_NOTHING, description="The time the job was completed.")
    metadata: dict[str, Any] = Field(_NOTHING, description="Metadata information supplied by the user.")
    hosts: list[str] = Field(_NOTHING, description="The list of UUIDs of the hosts containing the job.")
    name: str = Field(_NOTHING, description="The name of the job.")
