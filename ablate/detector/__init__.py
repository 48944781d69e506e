"""Mask R-CNN on a plain ViT or a ResNet, of torchvision's parts: model, losses, training, inference, FLOPs."""
