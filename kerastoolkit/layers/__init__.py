"""The few layers that the builders need and Keras lacks; all maths in ``keras.ops``."""

from kerastoolkit.layers.anchor_boxes import AnchorBoxes as AnchorBoxes
from kerastoolkit.layers.attention import AdditiveAttention as AdditiveAttention
from kerastoolkit.layers.attention import DotProductAttention as DotProductAttention
from kerastoolkit.layers.attention import MultiHeadAttention as MultiHeadAttention
from kerastoolkit.layers.attention_decoder import AttentionDecoder as AttentionDecoder
from kerastoolkit.layers.attention_decoder import ReverseTexts as ReverseTexts
from kerastoolkit.layers.batch_normalization import BatchNormalization as BatchNormalization
from kerastoolkit.layers.best_boxes import BestBoxes as BestBoxes
from kerastoolkit.layers.bilinear_kernel import BilinearKernel as BilinearKernel
from kerastoolkit.layers.class_masks import ClassMasks as ClassMasks
from kerastoolkit.layers.corruption import Corruption as Corruption
from kerastoolkit.layers.distribution_boxes import DistributionBoxes as DistributionBoxes
from kerastoolkit.layers.double_size import DoubleSize as DoubleSize
from kerastoolkit.layers.dropout import Dropout as Dropout
from kerastoolkit.layers.embeddings import AtPositions as AtPositions
from kerastoolkit.layers.embeddings import Bias as Bias
from kerastoolkit.layers.embeddings import PositionEmbedding as PositionEmbedding
from kerastoolkit.layers.embeddings import SegmentEmbedding as SegmentEmbedding
from kerastoolkit.layers.gaussian_sample import GaussianSample as GaussianSample
from kerastoolkit.layers.image_sizes import CropLike as CropLike
from kerastoolkit.layers.image_sizes import MirrorToFit as MirrorToFit
from kerastoolkit.layers.image_sizes import PadToMultiple as PadToMultiple
from kerastoolkit.layers.local_response_normalization import (
    LocalResponseNormalization as LocalResponseNormalization,
)
from kerastoolkit.layers.pointer_generator import PointerGenerator as PointerGenerator
from kerastoolkit.layers.pyramid_anchors import PyramidAnchors as PyramidAnchors
from kerastoolkit.layers.recurrent import GRU as GRU
from kerastoolkit.layers.recurrent import LSTM as LSTM
from kerastoolkit.layers.recurrent import SimpleRNN as SimpleRNN
from kerastoolkit.layers.region_proposals import RegionProposals as RegionProposals
from kerastoolkit.layers.roi_align import RoiAlign as RoiAlign
from kerastoolkit.layers.sample_regions import SampleRegions as SampleRegions
from kerastoolkit.layers.sparsity import SparsityPenalty as SparsityPenalty
from kerastoolkit.layers.transformer import PositionEncoding as PositionEncoding
from kerastoolkit.layers.transformer import TransformerDecoderBlock as TransformerDecoderBlock
from kerastoolkit.layers.transformer import TransformerEncoderBlock as TransformerEncoderBlock
from kerastoolkit.layers.word_windows import OwnScores as OwnScores
from kerastoolkit.layers.word_windows import Segments as Segments
from kerastoolkit.layers.word_windows import WindowMean as WindowMean
from kerastoolkit.layers.word_windows import WindowScores as WindowScores
