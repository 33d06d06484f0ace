"""A store backend for Great Expectations' own objects: suites, results and definitions beside the lake's tables.

Named in the configuration of a store by `module_name` and `class_name`; the lake is the one that the settings name
(`MNEMO_LAKE`, `MNEMO_S3_*`), so that no key is written into a configuration. The library has had no backend for
object stores since 1.24.
"""

from __future__ import annotations

from typing import Any

from expectations.polars_gx.library import InvalidKeyError, TupleStoreBackend
from lakehouse.files import Files, open_files
from lakehouse.settings import load_settings
from lakehouse.store import open_store


class LakeStoreBackend(TupleStoreBackend):  # type: ignore[misc] # the library is read without types
    """Keeps texts at `<lake>/<folder>/<key>.json`; raises the library's InvalidKeyError for a key that is not there.

    `folder` is given in the configuration, such as `gx/validations`: one for each store. `docs/` belongs to the gates.
    """

    def __init__(self, *, folder: str, **options: Any) -> None:
        """`options` are those of the library's own class; it gives a suffix or a template for each store."""
        super().__init__(
            **{**options, "suppress_store_backend_id": True, "platform_specific_separator": False}
        )
        self._folder = f"{folder.strip('/')}/"
        self._files: Files = open_files(open_store(load_settings()).settings)
        self._config = {
            "module_name": type(self).__module__,
            "class_name": type(self).__name__,
            "folder": folder,
            **options,
        }

    def list_keys(self, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """Keys of all that is stored, as the library asks for them."""
        within = "".join(f"{part}/" for part in prefix)
        paths = [key.removeprefix(self._folder) for key in self._files.keys(f"{self._folder}{within}")]
        suffix = self.filepath_suffix or ""
        return [tuple(self._convert_filepath_to_key(path)) for path in paths if path.endswith(suffix)]

    def remove_key(self, key: Any) -> bool:
        """Delete; whether there was anything."""
        if not self._has_key(key := _as_tuple(key)):
            return False
        self._files.delete([self._place(key)])
        return True

    def _get(self, key: tuple[str, ...]) -> str:
        try:
            return self._files.get(self._place(key)).decode()
        except FileNotFoundError:
            raise InvalidKeyError(f"nothing is stored at {self._place(key)}") from None

    def _get_all(self) -> list[str]:
        return [self._get(key) for key in self.list_keys()]

    def _set(self, key: tuple[str, ...], value: str | bytes, **_: Any) -> str:
        place = self._place(key)
        self._files.put(place, value if isinstance(value, bytes) else value.encode())
        return place

    def _move(self, source_key: tuple[str, ...], dest_key: tuple[str, ...], **_: Any) -> tuple[str, ...]:
        self._set(dest_key, self._get(source_key))
        self.remove_key(source_key)
        return dest_key

    def _has_key(self, key: tuple[str, ...]) -> bool:
        place = self._place(key)
        return place in self._files.keys(place)

    def _place(self, key: tuple[str, ...]) -> str:
        return f"{self._folder}{self._convert_key_to_filepath(key)}"


def _as_tuple(key: Any) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else tuple(key.to_tuple())
