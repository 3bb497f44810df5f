"""Published data sets: where their files lie, that they are the published bytes, and what is in them.

One file a data set; `discover(DataSet)` finds them all.
"""

from reinmax_core.data.base import Availability, Citation, DataSet, DataSource, DataUnavailable
from reinmax_core.data.file import DataCorrupt, DataFile
from reinmax_core.data.images import ImageData, ImageDataSet

__all__ = [
    "Availability",
    "Citation",
    "DataCorrupt",
    "DataFile",
    "DataSet",
    "DataSource",
    "DataUnavailable",
    "ImageData",
    "ImageDataSet",
]
