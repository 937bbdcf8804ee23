"""Names for arrays; float64 unless said otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.float64]
    Float32Array: TypeAlias = NDArray[np.float32]
    BoolArray: TypeAlias = NDArray[np.bool_]
    IntArray: TypeAlias = NDArray[np.int64]
else:
    # numpy takes a tenth of a second to import; a look-up from a shell handles no arrays.
    FloatArray = Float32Array = BoolArray = IntArray = Any
