#!/usr/bin/env python3
"""Writes a network of your own for `lategrad train --model net.pt`.

    apt-get install python3-torch       # what a newer PyTorch saves may hold operators that libtorch 1.13 does not know
    /usr/bin/python3 examples/net.py [net.pt]

Any module that torch.jit.script takes will do: float32 parameters, none of them shared; a batch of images
(N, C, H, W) or rows (N, D) goes in, logits (N, classes) come out, or one number per row for regression.
"""
import sys

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.head = nn.Linear(32 * 7 * 7, 10)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))


torch.manual_seed(1)
torch.jit.script(Net()).save(sys.argv[1] if len(sys.argv) > 1 else "net.pt")
