"""Toil's old names for the verbs of a job store, as one table: the old signature, and the living verb behind it.

Each line is a signature as Toil's documents print it, then the living name, then the living names of the arguments in the same
order. The blocking face gets a method for every line; code written for an old Toil goes on working with it. Names that did not
change have no line.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

_TABLE = """
writeConfig()                                                   write_config
setRootJob(rootJobStoreID)                                      set_root_job               job_id
loadRootJob()                                                   load_root_job
createRootJob(desc)                                             create_root_job            job_description
getRootJobReturnValue()                                         get_root_job_return_value
importFile(srcUrl, sharedFileName=None, hardlink=False, symlink=True)   import_file        src_uri shared_file_name hardlink symlink
exportFile(jobStoreFileID, dstUrl)                              export_file                file_id dst_uri
getEnv()                                                        get_env
assignID(jobDescription)                                        assign_job_id              job_description
create(jobDescription)                                          create_job                 job_description
exists(jobStoreID)                                              job_exists                 job_id
getPublicUrl(fileName)                                          get_public_url             file_name
getSharedPublicUrl(sharedFileName)                              get_shared_public_url      shared_file_name
load(jobStoreID)                                                load_job                   job_id
update(jobDescription)                                          update_job                 job_description
delete(jobStoreID)                                              delete_job                 job_id
writeFile(localFilePath, jobStoreID=None, cleanup=False)        write_file                 local_path job_id cleanup
writeFileStream(jobStoreID=None, cleanup=False, basename=None, encoding=None, errors=None)  write_file_stream  job_id cleanup basename encoding errors
getEmptyFileStoreID(jobStoreID=None, cleanup=False, basename=None)      get_empty_file_store_id    job_id cleanup basename
readFile(jobStoreFileID, localFilePath, symlink=False)          read_file                  file_id local_path symlink
readFileStream(jobStoreFileID, encoding=None, errors=None)      read_file_stream           file_id encoding errors
deleteFile(jobStoreFileID)                                      delete_file                file_id
fileExists(jobStoreFileID)                                      file_exists                file_id
getFileSize(jobStoreFileID)                                     get_file_size              file_id
updateFile(jobStoreFileID, localFilePath)                       update_file                file_id local_path
updateFileStream(jobStoreFileID, encoding=None, errors=None)    update_file_stream         file_id encoding errors
writeSharedFileStream(sharedFileName, isProtected=None, encoding=None, errors=None)  write_shared_file_stream  shared_file_name encrypted encoding errors
readSharedFileStream(sharedFileName, encoding=None, errors=None)        read_shared_file_stream    shared_file_name encoding errors
writeStatsAndLogging(statsAndLoggingString)                     write_logs                 msg
readStatsAndLogging(callback, readAll=False)                    read_logs                  callback read_all
"""  # noqa: E501 - a table


class Alias(NamedTuple):
    """One old name."""

    name: str
    """The living verb."""
    signature: inspect.Signature
    """The old one, with `self`."""
    arguments: tuple[str, ...]
    """The living name of each argument after `self`."""

    def translate(self, self_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The living verb's keyword arguments for a call by the old name. TypeError as Python gives for a wrong call."""
        bound = self.signature.bind(self_, *args, **kwargs)
        new_names = dict(zip(list(self.signature.parameters)[1:], self.arguments, strict=True))
        return {new_names[old]: value for old, value in bound.arguments.items() if old != "self"}


def _parse() -> dict[str, Alias]:
    found = {}
    for line in _TABLE.strip().splitlines():
        call, _, rest = line.partition(")")
        old, _, arguments = call.partition("(")
        name, *living = rest.split()
        found[old] = Alias(name, _signature(arguments), tuple(living))
    return found


def _signature(arguments: str) -> inspect.Signature:
    constants = {"None": None, "False": False, "True": True}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", kind)]
    for argument in filter(None, (a.strip() for a in arguments.split(","))):
        name, eq, default = argument.partition("=")
        parameters.append(inspect.Parameter(name, kind, default=constants[default] if eq else inspect.Parameter.empty))
    return inspect.Signature(parameters)


ALIASES = _parse()
"""By old name."""
