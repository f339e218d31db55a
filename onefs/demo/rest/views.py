"""All endpoints that read the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from onefs.demo.rest import pagination, probe_filters, serializers, small_tables
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.dataset_filters import (
    DATASET_FILTERS,
    FILE_FILTERS,
    find_file,
    select_datasets,
    select_files,
)
from onefs.demo.rest.endpoints import READ_METHODS, Endpoint, unchanged
from onefs.demo.rest.session_filters import SESSION_FILTERS, select_sessions


def _no_rows(db: DemoDatabase, args: Mapping[str, str]) -> Sequence[Row]:
    return ()


_ENDPOINTS = (
    Endpoint(
        "sessions",
        "Session Api",
        select_sessions,
        serializers.session_row,
        SESSION_FILTERS,
        serializers.session_detail,
        DemoDatabase.session,
        model="Session",
        key="key:eid",
        cut=partial(pagination.partly_ordered, key=lambda session: session.start_time),
        options_fail=(True, True),
        head_fails=True,
    ),
    Endpoint(
        "datasets",
        "Dataset",
        select_datasets,
        serializers.dataset_row,
        DATASET_FILTERS,
        serializers.dataset_detail,
        DemoDatabase.dataset,
        key="key:dataset_id",
        options_fail=(True, False),
    ),
    Endpoint(
        "files",
        "File Record",
        select_files,
        serializers.file_row,
        FILE_FILTERS,
        find=find_file,
        key="key:file_id",
    ),
    Endpoint(
        "insertions",
        "Probe Insertion",
        probe_filters.select_insertions,
        serializers.insertion_row,
        probe_filters.INSERTION_FILTERS,
        serializers.insertion_detail,
        key="key:pid",
        cut=pagination.ordered,
    ),
    Endpoint(
        "trajectories",
        "Trajectory Estimate",
        probe_filters.select_trajectories,
        serializers.trajectory_row,
        probe_filters.TRAJECTORY_FILTERS,
    ),
    Endpoint(
        "channels",
        "Channel",
        probe_filters.select_channels,
        unchanged,
        probe_filters.CHANNEL_FILTERS,
    ),
    Endpoint("notes", "Note", probe_filters.select_notes, unchanged, probe_filters.NOTE_FILTERS),
    Endpoint(
        "brain-regions",
        "Brain Region",
        probe_filters.select_regions,
        unchanged,
        probe_filters.REGION_FILTERS,
        key="int:row_id",
        cut=pagination.ordered,
        # Alyx allows neither POST nor DELETE for brain regions
        list_methods=READ_METHODS,
        detail_methods=("GET", "PUT", "PATCH", "HEAD", "OPTIONS"),
    ),
    # these lists are empty in every laboratory of the demo
    Endpoint("chronic-insertions", "Chronic Insertion", _no_rows, unchanged),
    Endpoint("fields-of-view", "FOV", _no_rows, unchanged),
    Endpoint("surgeries", "Surgery", _no_rows, unchanged),
    Endpoint("water-administrations", "Water Administration", _no_rows, unchanged),
    Endpoint("weighings", "Weighing", _no_rows, unchanged),
    *small_tables.ENDPOINTS,
)
VIEWS = tuple(view for endpoint in _ENDPOINTS for view in endpoint.views())
