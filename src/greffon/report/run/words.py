"""What the report of a model says: every sentence has a name here, and each language has all of them.

Values stand in a sentence as ``{name}``. What depends on a number is two sentences, ``Plural``: of French, none and one have the
first; of English, one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from greffon.auditing import Kind

__all__ = ["Plural", "Words"]


@final
@dataclass(frozen=True, slots=True)
class Plural:
    """A sentence about one, and the same about many."""

    one: str
    many: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The sentences of one language."""

    # Numbers: the decimal sign, what parts thousands, the sign of a per cent with its space, quotation marks.
    point: str
    thousands: str
    per_cent: str
    quotes: tuple[str, str]
    none_is_one: bool
    missing: str
    interval: str
    listed: str

    # The head of the page.
    title: Plural
    extraction: str
    tuning: Plural
    contents: str
    no_script: str
    no_picture: str
    more: str
    values: str
    colon: str

    # Whether to trust it, where it fails, what to do.
    summary: str
    no_test: str
    accuracy: Plural
    accuracy_seen: Plural
    held_out: str
    perhaps_seen: str
    few: str
    further_figures: str
    top5: str
    trust: str
    baseline: str
    no_better: str
    sure: Plural
    calibrated: str
    too_sure: str
    too_unsure: str
    cannot_say: str
    failing: str
    none_wrong: str
    weakest: Plural
    confused: Plural
    advice: str
    advice_labels: Plural
    advice_leaks: Plural
    advice_test: str
    advice_class: Plural
    advice_more: str
    advice_enough: str
    advice_unsure: str
    advice_confused: str
    advice_tune: str
    advice_none: str

    # What is taken for what.
    matrix: str
    matrix_caption: str
    matrix_hint: str
    matrix_many: str
    cell: Plural
    cell_right: Plural
    cell_none: str
    gallery: str
    gallery_more: str
    gallery_left: str
    pairs: str
    true_class: str
    predicted_class: str
    images: str

    # Mistakes.
    mistakes: str
    mistakes_lead: Plural
    mistakes_first: str
    mistakes_all: str
    mistake: str
    mistake_image: str
    heat_image: str
    heat_lead: str
    heat_methods: Mapping[str, str]

    # Class by class.
    classes: str
    classes_lead: str
    class_name: str
    class_all: str
    class_tested: str
    precision: str
    recall: str
    recall_interval: str
    f1: str

    # Calibration.
    calibration: str
    calibration_error: str
    calibration_chance: str
    calibration_before: str
    calibration_read: str
    confidence: str
    named_rightly: str
    as_sure_as_right: str
    calibration_image: str

    # How it learned.
    learning: str
    losses: str
    losses_image: str
    accuracies_image: str
    epoch: str
    nats: str
    training_loss: str
    validation_loss: str
    validation_accuracy: str
    kept_epoch: str
    by_images: str
    by_images_lead: str
    by_images_image: str
    training_images: str
    accuracy_axis: str
    chosen_head: str
    features_column: str
    strength_column: str
    cross_validation: str
    log_loss: str
    search: str
    search_lead: Plural
    search_flatters: str
    search_mattered: str
    search_share: str
    search_image: str

    # The map.
    map: str
    map_lead: str
    map_tsne: str
    map_pca: str
    map_some: str
    map_wrong: str
    map_wrong_button: str

    # The images, and the faults of the data.
    data: str
    data_root: str
    data_images: str
    data_counts: str
    data_near: str
    data_near_value: Plural
    data_copies: str
    data_copies_value: Plural
    data_conflicting: str
    data_conflicting_value: Plural
    data_unreadable: str
    data_unreadable_value: Plural
    more_in_metrics: str
    left_out: str
    faults: str
    faults_none: str
    faults_audit: str
    faults_suspects: str
    suspect: str
    suspect_image: str
    reason_label: str
    reason_same: str
    reason_nearly: str
    reason_few: Plural
    reason_imbalance: str
    and_more: Plural
    kinds: Mapping[str, Kind]
    unreadable_reasons: Mapping[str, str]

    # The network.
    network: str
    network_frozen: str
    network_all_frozen: str
    network_none_frozen: str
    network_image: str

    # How it was made.
    made: str
    command: str
    command_lead: str
    command_none: str
    settings: str
    backbone: str
    backbone_value: str
    fingerprint: str
    input: str
    input_value: str
    frozen_part: str
    fidelity: str
    engines: str
    engine: str
    engine_rate: str
    engine_cosine: str
    engine_verdict: str
    head: str
    heads: Mapping[str, str]
    head_strength: str
    balanced: str
    unbalanced: str
    temperature: str
    features: str
    features_last: str
    features_every: str
    features_chosen: str
    pools: Mapping[str, str]
    norms: Mapping[str, str]
    trained: str
    trained_value: str
    chosen_by_validation: str
    chosen_by_nothing: str
    stopped_early: str
    optimiser: str
    optimiser_value: str
    mixed: str
    smoothing: str
    views: str
    views_value: Plural
    strategy: str
    strategy_kept: str
    strategy_tuned: str
    notes: str
    seed: str
    seconds: str
    seconds_value: str
    versions: str
