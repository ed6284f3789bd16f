"""The result of an extraction of features."""

from dataclasses import dataclass

from tfp_smvi.core.records import Record

__all__ = ["FeaturesReport"]


@dataclass(frozen=True)
class FeaturesReport(Record):
    """What `extract_features` did.

    Attributes:
        num_images: the number of examples of the source.
        num_features: the examples with features, which are the rows of the file.
        num_skipped: the examples that could not be read, each with the reason in `errors_file`.
        first_errors: the first of the reasons, each with the id of its example.
        output: the file of features.
        errors_file: the list of the examples without features; None if all have features.
        images_per_second: the speed of this process; 0 if everything was done before.
    """

    num_images: int
    num_features: int
    num_skipped: int
    first_errors: tuple[str, ...]
    output: str
    errors_file: str | None
    images_per_second: float
