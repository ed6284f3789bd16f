# The public names: where each is, for readers, type checkers, and the import at its first use.
from .given import classify_features as classify_features
from .labels import check_labels as check_labels
from .protocol import classify as classify
from .results import Classification as Classification
