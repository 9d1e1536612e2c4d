#!/bin/bash
# The specification's script "PersistentVolume Provisioning". It deviates in three places:
# - `image: busybox` is `busybox:1.36`, as there is no registry to ask for a newer `latest`.
# - The claim is waited for after its pod is there: its class waits for the first consumer.
# - It is waited for by its phase: a claim has no condition `Bound`.
set -e

# Create PVC
kubectl apply -f - <<MANIFEST
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: test-pvc
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: 1Gi
  storageClassName: lightningstor-ssd
MANIFEST

# Create pod using PVC
kubectl apply -f - <<MANIFEST
apiVersion: v1
kind: Pod
metadata:
  name: test-pod
spec:
  containers:
  - name: app
    image: busybox:1.36
    command: ["sh", "-c", "echo hello > /data/test.txt && sleep 3600"]
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    persistentVolumeClaim:
      claimName: test-pvc
MANIFEST

# Wait for PVC to be bound
kubectl wait --for=jsonpath='{.status.phase}'=Bound pvc/test-pvc --timeout=60s

kubectl wait --for=condition=Ready pod/test-pod --timeout=60s

# Verify file written
kubectl exec test-pod -- cat /data/test.txt | grep hello || exit 1

# Cleanup
kubectl delete pod test-pod
kubectl delete pvc test-pvc
