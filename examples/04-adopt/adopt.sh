# What:    four published detectors, by the predictions that they left on 206 images of COCO val2017
# Command: DATA=/path/to/coco_val2017_206 sh adopt.sh      (in this folder)
detablate ablate adopt four-detectors --gt "$DATA/gt_bbox_206.json" --images "$DATA/images" --baseline YOLOv8n \
  --variant YOLOv8n="$DATA/dt_bbox_yolov8n.json.gz" --variant YOLOv8m="$DATA/dt_bbox_yolov8m.json.gz" \
  --variant YOLOv5s-seg="$DATA/dt_bbox_yolov5s-seg.json.gz" \
  --variant EfficientDet-Lite2="$DATA/dt_bbox_efficientdet-lite2.json.gz" --facts facts.csv
