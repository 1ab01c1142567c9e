"""What the webhook needs and can't have just now. The family, for those who catch it:

    Unavailable        the API server can't be asked, or says no; a certificate can't be read
      NotFound         404: there is no such object
      Conflict         409: it was written since it was read, or is there already
      Gone             410: the API server no longer knows the version that a watch wants to go on from

Each is one line: what was wanted, and why it can't be had. What failed may be tried again later.
"""


class Unavailable(Exception):
    """What is needed could not be had: one line."""


class NotFound(Unavailable):
    """There is no such object."""


class Conflict(Unavailable):
    """The object was written since it was read, or is there already."""


class Gone(Unavailable):
    """The version that a watch should go on from is too old: list again."""
