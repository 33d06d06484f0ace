"""A data source for Great Expectations: `context.data_sources.add_polars(name)`, once this module is imported."""

from __future__ import annotations

import builtins
from typing import Any, ClassVar, Literal

import polars as pl

from expectations.polars_gx.engine import PolarsExecutionEngine
from expectations.polars_gx.library import (
    DATA_CONNECTOR_NAME,
    Batch,
    BatchRequest,
    BuildBatchRequestError,
    DataAsset,
    Datasource,
    IDDict,
    LegacyBatchDefinition,
    RuntimeDataBatchSpec,
    make_batch_identifier,
    pydantic,
)

_OPTION = "dataframe"


class PolarsFrameAsset(DataAsset):  # type: ignore[misc] # the library is read without types
    """A frame or lazy scan, given as `batch_parameters={"dataframe": ...}` when it is to be judged."""

    type: Literal["polars_frame"] = "polars_frame"

    class Config:
        """As the library's own assets: no other fields."""

        extra = pydantic.Extra.forbid

    def test_connection(self) -> None:
        """There is nothing to connect to."""

    def get_batch_parameters_keys(self, partitioner: Any = None) -> tuple[str, ...]:
        """The one option."""
        del partitioner
        return (_OPTION,)

    def build_batch_request(
        self, options: Any = None, batch_slice: Any = None, partitioner: Any = None
    ) -> Any:
        """The request for the frame in `options`. Raises BuildBatchRequestError for anything else."""
        if batch_slice is not None or partitioner is not None:
            raise BuildBatchRequestError(message="a frame is judged whole: no batch_slice, no partitioner")
        if not _holds_frame(options):
            raise BuildBatchRequestError(
                message="options must be {'dataframe': a Polars DataFrame or LazyFrame}"
            )
        return BatchRequest(datasource_name=self.datasource.name, data_asset_name=self.name, options=options)

    def get_batch_identifiers_list(self, batch_request: Any) -> list[dict[str, Any]]:
        """The options: there is one batch."""
        return [IDDict(batch_request.options)]

    def get_batch(self, batch_request: Any) -> Any:
        """The batch, loaded into an engine of its own."""
        self._validate_batch_request(batch_request)
        spec = RuntimeDataBatchSpec(batch_data=batch_request.options[_OPTION])
        data, markers = self.datasource.get_execution_engine().get_batch_data_and_markers(batch_spec=spec)
        return Batch(
            datasource=self.datasource,
            data_asset=self,
            batch_request=batch_request,
            data=data,
            metadata=self._get_batch_metadata_from_batch_request(
                batch_request=batch_request, ignore_options=(_OPTION,)
            ),
            batch_markers=markers,
            batch_spec=spec,
            batch_definition=LegacyBatchDefinition(
                datasource_name=self.datasource.name,
                data_connector_name=DATA_CONNECTOR_NAME,
                data_asset_name=self.name,
                batch_identifiers=make_batch_identifier(batch_request.options),
                batch_spec_passthrough=None,
            ),
        )

    def add_batch_definition_whole_dataframe(self, name: str) -> Any:
        """The only batch definition that makes sense here."""
        return self.add_batch_definition(name=name, partitioner=None)

    def _validate_batch_request(self, batch_request: Any) -> None:
        asked = batch_request.datasource_name, batch_request.data_asset_name
        if asked != (self.datasource.name, self.name) or not _holds_frame(batch_request.options):
            raise BuildBatchRequestError(
                message=f"not a request for asset {self.name} of {self.datasource.name}"
            )


class PolarsDatasource(Datasource):  # type: ignore[misc]
    """Judges Polars frames and scans. Threads may share it and what is made from it: each batch has its own engine."""

    asset_types: ClassVar[list[builtins.type]] = [PolarsFrameAsset]
    type: Literal["polars"] = "polars"
    assets: list[PolarsFrameAsset] = pydantic.Field(default_factory=list)

    @property
    def execution_engine_type(self) -> builtins.type[PolarsExecutionEngine]:
        """The Polars engine."""
        return PolarsExecutionEngine

    def get_execution_engine(self) -> PolarsExecutionEngine:
        """A new one each time: with a shared one, threads would judge each other's frames."""
        return PolarsExecutionEngine()

    def test_connection(self, test_assets: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """There is nothing to connect to."""
        del test_assets

    def add_dataframe_asset(
        self, name: str, batch_metadata: dict[str, Any] | None = None
    ) -> PolarsFrameAsset:
        """An asset to which frames are given when they are to be judged."""
        asset: PolarsFrameAsset = self._add_asset(
            PolarsFrameAsset(name=name, batch_metadata=batch_metadata or {})
        )
        return asset


def _holds_frame(options: Any) -> bool:
    return (
        bool(options)
        and set(options) == {_OPTION}
        and isinstance(options[_OPTION], pl.DataFrame | pl.LazyFrame)
    )
