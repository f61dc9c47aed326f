"""The contract suite: what every driver keeps, whatever its device, category or shape, checked in the real kernel.

`vfab driver test NAME`, `vfab plugin check`, the tests of vfab and those of plugins' authors run this one suite:

    from vfab.apps.contract import check_folder

    def test_it_keeps_the_contract_of_every_driver():
        report = check_folder(Path(__file__).parent)
        assert report.passed, report.table()
"""

from __future__ import annotations

from vfab.apps.contract.checks import CHECKS, RULE_CHECKS
from vfab.apps.contract.model import Check, Outcome, Report, Result
from vfab.apps.contract.run import cannot_be_checked, check_driver, check_folder

__all__ = [
    "CHECKS",
    "RULE_CHECKS",
    "Check",
    "Outcome",
    "Report",
    "Result",
    "cannot_be_checked",
    "check_driver",
    "check_folder",
]
