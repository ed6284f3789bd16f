"""Networks of your own, for every command.

    tfp-smvi train --dataset digits --model own_model:build --latent-dim 8 --epochs 20

in this folder trains them. The run records the function, which the other commands import again.
"""

import keras
from keras import layers

from tfp_smvi import ModelConfig, network_shapes


def build(image_shape: tuple[int, ...], config: ModelConfig) -> tuple[keras.Model, keras.Model]:
    """Returns an encoder with a residual block, and a decoder; q and p follow the options."""
    shapes = network_shapes(image_shape, config)

    x = keras.Input(shapes.input_shape)
    first = layers.Conv2D(16, 3, strides=2, padding="same", activation="softplus")(x)
    block = layers.Conv2D(16, 3, padding="same", activation="softplus")(first)
    features = layers.Flatten()(layers.LayerNormalization()(layers.add([first, block])))
    encoder = keras.Model(x, layers.Dense(shapes.encoder_outputs)(features))

    z = keras.Input([shapes.latent_dim])
    hidden = layers.Dense(64, activation="softplus")(z)
    decoder = keras.Model(z, layers.Dense(shapes.decoder_size)(hidden))
    return encoder, decoder
