"""An operator for Gardens: converts, checks and labels them as a webhook, and makes a ConfigMap for each."""

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = "https://kubernetes.default.svc"


def converted(garden, version):
    spec = dict(garden.get("spec", {}))
    if version.endswith("/v2") and "flower" in spec:
        spec["flowers"] = [spec.pop("flower")]
    elif version.endswith("/v1") and "flowers" in spec:
        spec["flower"] = spec.pop("flowers")[0]
    return {**garden, "apiVersion": version, "spec": spec}


def convert(request):
    gardens = [converted(garden, request["desiredAPIVersion"]) for garden in request["objects"]]
    return {"result": {"status": "Success"}, "convertedObjects": gardens}


def validate(request):
    weeds = "weed" in json.dumps(request["object"]["spec"])
    return {"allowed": not weeds, "status": {"message": "no weeds here", "code": 403}}


def mutate(request):
    import base64

    labels = {**request["object"]["metadata"].get("labels", {}), "tended-by": "operator"}
    patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": labels}])
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"/convert": convert, "/validate": validate, "/mutate": mutate}[self.path.split("?")[0]](review["request"])
        review["response"] = {"uid": review["request"]["uid"], **answer}
        del review["request"]
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def ask(method, path, body=None):
    with open(f"{ACCOUNT}/token") as token:
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": "application/json"}
    request = urllib.request.Request(API + path, body and json.dumps(body).encode(), headers, method=method)
    return urllib.request.urlopen(request, context=ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt"))


def tend():
    for line in ask("GET", "/apis/ops.example.com/v2/namespaces/default/gardens?watch=1"):
        event = json.loads(line)
        if event["type"] != "ADDED":
            continue
        name, garden = event["object"]["metadata"]["name"], event["object"]
        owner = {"apiVersion": "ops.example.com/v2", "kind": "Garden", "name": name, "uid": garden["metadata"]["uid"]}
        bed = {"metadata": {"name": f"{name}-bed", "ownerReferences": [owner]}, "data": {"flowers": ",".join(garden["spec"]["flowers"])}}
        try:
            ask("POST", "/api/v1/namespaces/default/configmaps", bed)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        print("planted", name)


server = ThreadingHTTPServer(("", 8443), Webhook)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = tls.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    try:
        tend()
    except Exception as error:
        print("again:", error)
        time.sleep(0.5)
