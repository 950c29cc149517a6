"""Names of the recovery methods."""

from __future__ import annotations

import pytest

from edgeport.calibration.recovery import RECOVERIES, BiasCorrection, Equalization, describe, recoveries_named
from edgeport.errors import CalibrationError


@pytest.mark.parametrize("row", RECOVERIES.values(), ids=lambda row: row.form)
def test_every_method_is_named_by_its_form(row):
    (method,) = recoveries_named([row.form])
    assert recoveries_named([describe(method)]) == (method,)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["bias-corection"], "did you mean 'bias-correction'"),
        (["bias-correction", "bias-correction"], "name it once"),
        (["equalization:elu"], "give relu6 or nothing"),
        (["bias-correction:2"], "1 values behind 'bias-correction'"),
    ],
)
def test_what_is_no_method_is_refused(names, says):
    with pytest.raises(CalibrationError, match=says):
        recoveries_named(names)


def test_nothing_is_recovered_unless_it_is_asked_for():
    assert recoveries_named([]) == ()
    assert recoveries_named(["bias-correction"]) == (BiasCorrection(),)


def test_the_order_is_that_of_their_application():
    assert recoveries_named(["bias-correction", "equalization:relu6"]) == (Equalization("relu6"), BiasCorrection())
    assert describe(Equalization("relu6")) == "equalization:relu6"
