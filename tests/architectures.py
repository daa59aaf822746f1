"""Small definitions of well-known architectures: their topology, few layers, random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "build"]


def conv(a: int, b: int, k: int = 3, stride: int = 1, groups: int = 1, act=nn.ReLU) -> nn.Module:
    layers = [nn.Conv2d(a, b, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(b)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Head(nn.Module):
    """Mean over the image, then a linear."""

    def __init__(self, channels: int, classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.view(-1, 400))))))


def vgg() -> nn.Module:
    pools = [nn.MaxPool2d(2) for _ in range(3)]
    return nn.Sequential(
        conv(3, 8), conv(8, 8), pools[0], conv(8, 16), conv(16, 16), pools[1], conv(16, 32),
        pools[2], nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10),
    )  # fmt: skip


class PaddedBlock(nn.Module):
    """A CIFAR ResNet's block with the shortcut of option A."""

    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.one, self.two = conv(a, b, stride=stride), conv(b, b, act=None)
        self.stride, self.margin = stride, (b - a) // 2

    def forward(self, x):
        y = self.two(self.one(x))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.margin, self.margin))
        return F.relu(x + y)


def cifar_resnet(n: int) -> nn.Module:
    layers, a = [conv(3, 8)], 8
    for b in (8, 16, 32):
        for i in range(n):
            layers.append(PaddedBlock(a, b, 2 if i == 0 and b > 8 else 1))
            a = b
    return nn.Sequential(*layers, Head(32))


class Bottleneck(nn.Module):
    """ResNet-50's block; with groups RegNet's (X)."""

    def __init__(self, a: int, inner: int, b: int, stride: int, groups: int = 1, gate: int = 0):
        super().__init__()
        self.body = nn.Sequential(
            conv(a, inner, 1), conv(inner, inner, 3, stride, groups),
            *([Gate(inner, gate, nn.Sigmoid, nn.ReLU)] if gate else []),
            conv(inner, b, 1, act=None),
        )  # fmt: skip
        self.down = conv(a, b, 1, stride, act=None) if stride > 1 or a != b else nn.Identity()

    def forward(self, x):
        return F.relu(self.body(x) + self.down(x))


def resnet50() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), Bottleneck(8, 8, 32, 1), Bottleneck(32, 8, 32, 1),
        Bottleneck(32, 16, 64, 2), Bottleneck(64, 16, 64, 1), Head(64),
    )  # fmt: skip


def regnet() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, 3, 2), Bottleneck(8, 24, 24, 2, 3, 4), Bottleneck(24, 24, 24, 1, 3, 4),
        Bottleneck(24, 48, 48, 2, 6, 8), Head(48),
    )  # fmt: skip


class Dense(nn.Module):
    def __init__(self, a: int, growth: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


def densenet() -> nn.Module:
    return nn.Sequential(
        conv(3, 8), Dense(8, 4), Dense(12, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1),
        nn.AvgPool2d(2), Dense(8, 4), Dense(12, 4), nn.BatchNorm2d(16), nn.ReLU(), Head(16),
    )  # fmt: skip


def mobilenet_v1() -> nn.Module:
    pairs = [(8, 16, 1), (16, 32, 2), (32, 32, 1)]
    body = [m for a, b, s in pairs for m in (conv(a, a, 3, s, a), conv(a, b, 1))]
    return nn.Sequential(conv(3, 8, 3, 2), *body, Head(32))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int, inner: int, gate=nn.Hardsigmoid, act=nn.ReLU):
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), act(),
            nn.Conv2d(inner, channels, 1), gate(),
        )  # fmt: skip

    def forward(self, x):
        return x * self.body(x)


class Inverted(nn.Module):
    """MobileNetV2's block; with a gate MobileNetV3's and EfficientNet's."""

    def __init__(
        self, a: int, b: int, stride: int, k=3, gate: Callable | None = None, act=nn.ReLU6
    ):
        super().__init__()
        inner = 4 * a
        self.body = nn.Sequential(
            conv(a, inner, 1, act=act), conv(inner, inner, k, stride, inner, act=act),
            *([gate(inner)] if gate else []), conv(inner, b, 1, act=None),
        )  # fmt: skip
        self.residual = stride == 1 and a == b

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, 3, 2, act=nn.ReLU6), Inverted(8, 8, 1), Inverted(8, 12, 2), Inverted(12, 12, 1),
        conv(12, 32, 1, act=nn.ReLU6), Head(32),
    )  # fmt: skip


def mobilenet_v3() -> nn.Module:
    gate = lambda n: Gate(n, n // 4)  # noqa: E731
    return nn.Sequential(
        conv(3, 8, 3, 2, act=nn.Hardswish), Inverted(8, 8, 1, 3, gate, nn.ReLU),
        Inverted(8, 12, 2, 5, gate, nn.Hardswish), Inverted(12, 12, 1, 5, gate, nn.Hardswish),
        conv(12, 32, 1, act=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 32), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(32, 10),
    )  # fmt: skip


def efficientnet() -> nn.Module:
    gate = lambda n: Gate(n, n // 8, nn.Sigmoid, nn.SiLU)  # noqa: E731
    return nn.Sequential(
        conv(3, 8, 3, 2, act=nn.SiLU), Inverted(8, 8, 1, 3, gate, nn.SiLU),
        Inverted(8, 12, 2, 5, gate, nn.SiLU), Inverted(12, 12, 1, 5, gate, nn.SiLU),
        conv(12, 32, 1, act=nn.SiLU), Head(32),
    )  # fmt: skip


class Shuffle(nn.Module):
    """ShuffleNetV2's unit."""

    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.stride, half = stride, b // 2
        inner = a if stride > 1 else half
        self.right = nn.Sequential(
            conv(inner, half, 1), conv(half, half, 3, stride, half, act=None), conv(half, half, 1)
        )
        self.left = nn.Sequential(conv(a, a, 3, stride, a, act=None), conv(a, half, 1))

    def forward(self, x):
        if self.stride == 1:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, self.right(right)], 1)
        else:
            x = torch.cat([self.left(x), self.right(x)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def shufflenet_v2() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, 3, 2), Shuffle(8, 16, 2), Shuffle(16, 16, 1), Shuffle(16, 32, 2),
        Shuffle(32, 32, 1), conv(32, 32, 1), Head(32),
    )  # fmt: skip


class Inception(nn.Module):
    def __init__(self, a: int, b: int):
        super().__init__()
        self.one, self.pooled = conv(a, b, 1), conv(a, b, 1)
        self.three = nn.Sequential(conv(a, b, 1), conv(b, 2 * b))
        self.five = nn.Sequential(conv(a, b // 2, 1), conv(b // 2, b, 5))

    def forward(self, x):
        pooled = self.pooled(F.max_pool2d(x, 3, 1, 1))
        return torch.cat([self.one(x), self.three(x), self.five(x), pooled], 1)


def googlenet() -> nn.Module:
    return nn.Sequential(
        conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), Inception(8, 4), Inception(20, 6), Head(30)
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 32)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ConvTranspose2d(16, 8, 2, stride=2)]
        )
        self.merge = nn.ModuleList([conv(32, 16), conv(16, 8)])
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        y = self.down[2](F.max_pool2d(b, 2))
        y = self.merge[0](torch.cat([self.up[0](y), b], 1))
        return self.last(self.merge[1](torch.cat([self.up[1](y), a], 1)))


class Detector(nn.Module):
    """YOLO-like: cross-stage partial blocks, pyramid with upsampling, decoupled heads."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU
        self.stem = nn.Sequential(conv(3, 8, 3, 2, act=act), conv(8, 16, 3, 2, act=act))
        self.enter, self.inner = conv(16, 16, 1, act=act), conv(8, 8, act=act)
        self.leave, self.deep = conv(24, 16, 1, act=act), conv(16, 32, 3, 2, act=act)
        self.pool = conv(64, 32, 1, act=act)
        self.fuse = conv(48, 16, act=act)
        self.boxes, self.classes = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        a, b = self.enter(self.stem(x)).chunk(2, 1)
        x = self.leave(torch.cat([a, b, b + self.inner(b)], 1))
        y = self.deep(x)
        y = self.pool(torch.cat([y, F.max_pool2d(y, 5, 1, 2)], 1))
        y = self.fuse(torch.cat([F.interpolate(y, scale_factor=2.0), x], 1))
        n = y.shape[0]
        boxes = self.boxes(y).view(n, 4, 4, -1).transpose(1, 2).softmax(1)
        return torch.cat([boxes.mean(1), self.classes(y).sigmoid().flatten(2)], 1)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm, self.wide = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 4 * dim)
        self.narrow, self.gamma = nn.Linear(4 * dim, dim), nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(F.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), ConvNeXtBlock(16), ConvNeXtBlock(16), Head(16))


class Tagger(nn.Module):
    """A tag for every step."""

    def __init__(self, kind: type[nn.Module]):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.cells = kind(16, 16, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.cells(self.embedding(x))[0])


class Hugging(nn.Module):
    """One output of a model of the transformers package."""

    def __init__(self, net: nn.Module, inputs: tuple[str, ...], output: str):
        super().__init__()
        self.net, self.inputs, self.output = net, inputs, output

    def forward(self, *x):
        return getattr(self.net(**dict(zip(self.inputs, x, strict=True))), self.output)


class Translator(Hugging):
    """Encoder and decoder take one input each."""

    def forward(self, a, b):
        return super().forward(a, b)


class Single(Hugging):
    def forward(self, x):
        return super().forward(x)


def hugging(name: str) -> nn.Module:
    """Tiny, random weights, built offline."""
    import transformers as t

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    match name:
        case "vit":
            config = t.ViTConfig(**size, intermediate_size=64, image_size=32, patch_size=8)
            return Single(t.ViTForImageClassification(config), ("pixel_values",), "logits")
        case "swin":
            config = t.SwinConfig(
                image_size=32, patch_size=2, embed_dim=12, depths=[2, 2], num_heads=[3, 6],
                window_size=4,
            )  # fmt: skip
            return Single(t.SwinForImageClassification(config), ("pixel_values",), "logits")
        case "bert":
            config = t.BertConfig(**size, intermediate_size=64, vocab_size=50)
            return Single(t.BertForSequenceClassification(config), ("input_ids",), "logits")
        case "gpt2":
            config = t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16)
            config.use_cache = False
            return Single(t.GPT2LMHeadModel(config), ("input_ids",), "logits")
        case "llama":
            config = t.LlamaConfig(
                **size, intermediate_size=64, num_key_value_heads=2, vocab_size=50, use_cache=False
            )
            return Single(t.LlamaForCausalLM(config), ("input_ids",), "logits")
        case "whisper":
            config = t.WhisperConfig(
                d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=50,
                num_mel_bins=8, max_source_positions=10, max_target_positions=12, use_cache=False,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )  # fmt: skip
            net = t.WhisperForConditionalGeneration(config)
            return Translator(net, ("input_features", "decoder_input_ids"), "logits")
    raise KeyError(name)


def image(channels: int = 3, side: int = 32) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda n: (torch.randn(n, channels, side, side),)


def words(length: int = 7) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda n: (torch.randint(3, 50, (n, length)),)


def speech(n: int) -> tuple[Tensor, ...]:
    return torch.randn(n, 8, 20), torch.randint(3, 50, (n, 6))


# name -> what makes it, what makes inputs of a batch
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "lenet5": (LeNet5, image(1, 28)),
    "vgg": (vgg, image()),
    "resnet20": (lambda: cifar_resnet(3), image()),
    "resnet56": (lambda: cifar_resnet(9), image()),
    "resnet50": (resnet50, image()),
    "densenet": (densenet, image()),
    "mobilenet_v1": (mobilenet_v1, image()),
    "mobilenet_v2": (mobilenet_v2, image()),
    "mobilenet_v3": (mobilenet_v3, image()),
    "efficientnet": (efficientnet, image()),
    "shufflenet_v2": (shufflenet_v2, image()),
    "googlenet": (googlenet, image()),
    "regnet": (regnet, image()),
    "unet": (UNet, image()),
    "convnext": (convnext, image()),
    "vit": (lambda: hugging("vit"), image()),
    "swin": (lambda: hugging("swin"), image()),
    "bert": (lambda: hugging("bert"), words()),
    "gpt2": (lambda: hugging("gpt2"), words()),
    "llama": (lambda: hugging("llama"), words()),
    "whisper": (lambda: hugging("whisper"), speech),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2),
        lambda n: (torch.randn(n, 6, 16),),
    ),
    "lstm": (lambda: Tagger(nn.LSTM), words()),
    "gru": (lambda: Tagger(nn.GRU), words()),
    "detector": (Detector, image()),
}
NEED_TRANSFORMERS = {"vit", "swin", "bert", "gpt2", "llama", "whisper"}


def build(name: str, batch: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network in eval mode with settled batch statistics, and inputs."""
    make, inputs = ARCHITECTURES[name]
    torch.manual_seed(0)
    net, x = make(), inputs(batch)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.weight, 1, 0.2)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = None
    if norms:
        net.train()
        with torch.no_grad():
            net(*inputs(16))
    return net.eval(), x
