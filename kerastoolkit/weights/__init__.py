"""Weights from elsewhere: files of Keras, keras.applications and safetensors, and from one network to another."""

from kerastoolkit.weights.darknet import load_darknet as load_darknet
from kerastoolkit.weights.files import load_weights as load_weights
from kerastoolkit.weights.pretrained import load_image_weights as load_image_weights
from kerastoolkit.weights.safetensors import load_safetensors as load_safetensors
from kerastoolkit.weights.safetensors import save_safetensors as save_safetensors
from kerastoolkit.weights.torchvision import is_torchvision as is_torchvision
from kerastoolkit.weights.torchvision import load_torchvision as load_torchvision
from kerastoolkit.weights.transfer import copy_from_keras_applications as copy_from_keras_applications
