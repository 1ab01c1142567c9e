"""docs/reliability.md has a row of every fault and every kernel that is tried."""

from tests import faults
from tests.kernels import table


def test_no_row_is_missing() -> None:
    for each in (faults.TABLE, table.TABLE):
        assert [row for row in each.order if not each.documented(row)] == []
