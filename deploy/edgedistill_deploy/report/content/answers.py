"""The values of the page about single answers: those of the expert that the first screen is about."""

from typing import Any

from edgedistill_deploy.recommendation.shipping import Shipping
from edgedistill_deploy.records.reading import Records
from edgedistill_deploy.report.content.confusion import confusion_of
from edgedistill_deploy.report.content.pictures import answers_about, example_pictures, flip_views
from edgedistill_deploy.report.content.points import reject_series, reliability_series


def answer_values(records: Records, shipping: Shipping) -> dict[str, Any]:
    """Return the pictures, confusions and curves of the expert of the first screen, by the names in the template."""
    model = shipping.report.model if shipping.report else None
    shown = answers_about(model, records.answers) if model else None
    beside = [each for each in records.answers if shown and each.model.place == shown.model.place]
    return {
        "shown_answers": shown,
        "examples": example_pictures([shown, *records.answers] if shown else ()),
        "flips": flip_views(records.flips, model),
        "confusion": confusion_of(shown) if shown else None,
        "reject": reject_series(beside),
        "reliability": reliability_series(beside),
    }
