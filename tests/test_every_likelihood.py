"""The tests of test_every_model.py on the data that are no images."""

import pytest

from tests import test_every_model
from tests.test_every_model import VECTORS, Trained, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=VECTORS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(request.param, tmp_path_factory)


test_sweep = test_every_model.test_sweep
test_train_resumes = test_every_model.test_train_resumes
test_evaluate = test_every_model.test_evaluate
test_classify = test_every_model.test_classify
test_export_and_features = test_every_model.test_export_and_features
test_report_and_plot = test_every_model.test_report_and_plot
