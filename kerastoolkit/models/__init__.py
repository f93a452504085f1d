"""Builders: functions that return functional Keras models, one file per family of architectures."""

from kerastoolkit.models.autoencoder import convolutional_autoencoder as convolutional_autoencoder
from kerastoolkit.models.autoencoder import deep_autoencoder as deep_autoencoder
from kerastoolkit.models.autoencoder import denoising_autoencoder as denoising_autoencoder
from kerastoolkit.models.autoencoder import sparse_autoencoder as sparse_autoencoder
from kerastoolkit.models.cnn import cnn as cnn
from kerastoolkit.models.googlenet import googlenet as googlenet
from kerastoolkit.models.googlenet import googlenet_cifar as googlenet_cifar
from kerastoolkit.models.inception import inception_v3 as inception_v3
from kerastoolkit.models.recurrent import recurrent_forecaster as recurrent_forecaster
from kerastoolkit.models.recurrent import recurrent_language_model as recurrent_language_model
from kerastoolkit.models.resnet import resnet18 as resnet18
from kerastoolkit.models.resnet import resnet34 as resnet34
from kerastoolkit.models.resnet import resnet50 as resnet50
from kerastoolkit.models.resnet import resnet50v2 as resnet50v2
from kerastoolkit.models.resnet import resnet101 as resnet101
from kerastoolkit.models.resnet import resnet101v2 as resnet101v2
from kerastoolkit.models.resnet import resnet152 as resnet152
from kerastoolkit.models.resnet import resnet152v2 as resnet152v2
from kerastoolkit.models.resnet import resnet_cifar as resnet_cifar
from kerastoolkit.models.variational_autoencoder import variational_autoencoder as variational_autoencoder
from kerastoolkit.models.vgg import vgg11 as vgg11
from kerastoolkit.models.vgg import vgg13 as vgg13
from kerastoolkit.models.vgg import vgg16 as vgg16
from kerastoolkit.models.vgg import vgg19 as vgg19
