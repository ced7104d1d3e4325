"""The media that tasks ask about, by kind. Tasks import this and nothing else of the source."""

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import Subjects

_QUERIES = load_queries(__package__, "subjects.sql")

VIDEOS = Subjects("videos", _QUERIES["video_candidates"], _QUERIES["inputs"])
AUDIOS = Subjects("audios", _QUERIES["audio_candidates"], _QUERIES["inputs"])
IMAGES = Subjects("images", _QUERIES["image_candidates"], _QUERIES["inputs"])
