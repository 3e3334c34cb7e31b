from .segment_dataset import MachineLabeledData as MachineLabeledData
from .segment_dataset import MachineLabelOptions as MachineLabelOptions
from .segment_dataset import segment_dataset as segment_dataset
from .segmenter import Segmenter as Segmenter
from .segmenter import SegmentLabel as SegmentLabel
from .segmenter import load_segmenter as load_segmenter
