"""What the machine says of a file or folder, in one sentence with the mend: the last resort of every command.

Commands look beforehand whether they can write where they are told to. But a disk may be full an hour later.
"""

import errno

from gemma_metamon.strict_json import shown_path

_ROOM = "make room there, or name a place that has some, and run the command again"
_LEAVE = "name another place, or get leave for this one"
_MENDS = {
    "ENOSPC": _ROOM,
    "EDQUOT": _ROOM,
    "EFBIG": "no file may grow so large there; name another place",
    "EROFS": _LEAVE,
    "EACCES": _LEAVE,
    "EPERM": _LEAVE,
    "ENAMETOOLONG": "choose a shorter name",
    "ENOTDIR": "a file lies where a folder should be; name another place",
    "EEXIST": "something else lies there already; name another place",
    "EISDIR": "a folder lies where a file should be; name another file",
    "ELOOP": "its links lead in a circle; name another place",
    "EIO": "the disk or the connection to it may be failing; name another place",
    "ESTALE": "the connection to that disk was lost; name another place",
}
# the numbers differ between systems, and not each knows all of them
_BY_NUMBER = {getattr(errno, name): mend for name, mend in _MENDS.items() if hasattr(errno, name)}


def explain_os_error(error: OSError) -> str | None:
    """None of an error that is no matter of files, or of one that a user's files cannot cause: that is our own."""
    if error.errno not in _BY_NUMBER:
        return None
    where = "" if error.filename is None else f"{shown_path(error.filename)}: "
    said = error.strerror or str(error)
    return f"{where}{said[0].lower()}{said[1:]}; {_BY_NUMBER[error.errno]}"


def explain_unicode_error(error: UnicodeEncodeError) -> str | None:
    """Of a name whose bytes are no UTF-8, which Python holds but nothing can print or store; None of other texts."""
    wrong = error.object[error.start : error.end]
    if not any("\ud800" <= char <= "\udfff" for char in wrong):
        return None
    return f"{shown_path(error.object)[:200]} holds bytes that are no UTF-8; rename the file or folder"
