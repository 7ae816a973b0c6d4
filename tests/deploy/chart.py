"""Lints the chart of deploy/helm and renders it, by Helm's own library, for ./test to check what comes out.

    target/tools/helm/helm tests/deploy/chart.py DIRECTORY

DIRECTORY/default, and one for each file of the chart's ci/, get the objects (KIND.yaml), the text of evenkeel.toml and the
notes. Compares the objects of the defaults with deploy/kubernetes: the chart is another way to make the same.
"""

import difflib
import json
import pathlib
import sys
import tomllib

from helm_python.chart import Chart, lint, values_from_yaml
from helm_python.errors import HelmError

CHART = pathlib.Path("deploy/helm/evenkeel")
MANIFESTS = pathlib.Path("deploy/kubernetes")
WARNING = 2
# That the labels and annotations differ is the chart's point: they name the release.
OF_THE_RELEASE = {"labels", "annotations", "app.kubernetes.io/instance"}


def main(directory):
    cases = {"default": {}}
    for file in sorted(CHART.glob("ci/*-values.yaml")):
        cases[file.name.removesuffix("-values.yaml")] = values_from_yaml(file.read_text())
    with Chart.load(CHART) as chart:
        for case, values in cases.items():
            check_lint(case, values)
            write(render(chart, values), directory / case)
        check_observes(render(chart, {}))
        check_trusts(chart, "/tls/ca.crt", {})
        check_trusts(chart, "/ca.pem", {"caFile": "/ca.pem"})
        check_scraped_with_token(render(chart, cases["everything"]), cases["everything"]["secret"]["existing"])
        check_same_as_manifests(render(chart, {"serviceMonitor": {"enabled": True}}))
        check_lease(render(chart, {}), render(chart, {"config": {"lease": {"kubernetes": {"name": "evenkeel"}}}}))
        check_refused(chart, {"config": {"lease": {"kubernetes": {"namespace": "evenkeel"}}}})
        check_refused(chart, {"config": {"schedule": {"mode": "move"}}})
        check_refused(chart, {"config": {"schedule": None}})
        check_refused(chart, {"config": {"cluster": {"seeds": []}}})
        check_refused(chart, {"persistance": {"enabled": False}})
    print(f"chart: {', '.join(cases)} rendered")


def check_lint(case, values):
    found = [message for message in lint(CHART, values, strict=True)["messages"] if message["severity"] >= WARNING]
    assert not found, f"{case}: {found}"


def render(chart, values):
    """The objects by their kind, and "NOTES.txt", as texts."""
    objects = {}
    for template, text in chart.render(values, name="evenkeel", namespace="evenkeel").items():
        if template.endswith("NOTES.txt"):
            objects["NOTES.txt"] = text
        elif text.strip():
            objects[values_from_yaml(text)["kind"]] = text
    return objects


def config(objects):
    return values_from_yaml(objects["ConfigMap"])["data"]["evenkeel.toml"]


def write(objects, directory):
    directory.mkdir(parents=True)
    for kind, text in objects.items():
        (directory / (kind if kind == "NOTES.txt" else f"{kind}.yaml")).write_text(text)
    (directory / "evenkeel.toml").write_text(config(objects))


def check_same_as_manifests(objects):
    manifests = manifests_of(MANIFESTS)
    # Helm makes the namespace itself.
    del manifests["Kustomization"], manifests["Namespace"]
    del objects["NOTES.txt"]
    assert manifests.keys() == objects.keys(), f"{manifests.keys()} and {objects.keys()}"
    for kind, manifest in manifests.items():
        check_same(kind, manifest, values_from_yaml(objects[kind]))


def manifests_of(directory):
    manifests = [values_from_yaml(file.read_text()) for file in directory.glob("*.yaml")]
    return {manifest["kind"]: manifest for manifest in manifests}


def check_same(kind, manifest, chart):
    plain, chart = lines(manifest), lines(chart)
    difference = "\n".join(difflib.unified_diff(plain, chart, str(MANIFESTS), str(CHART), lineterm=""))
    assert not difference, f"{kind}:\n{difference}"


def check_scraped_with_token(objects, secret):
    """Where reads are closed, Prometheus is told where the token is that the daemon asks for."""
    [endpoint] = values_from_yaml(objects["ServiceMonitor"])["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": secret, "key": "token"}, endpoint


def check_lease(without, objects):
    """With a Lease the chart makes what the component of the manifests does, and nothing of it without."""
    manifests = manifests_of(MANIFESTS / "lease")
    component = manifests.pop("Component")
    assert not manifests.keys() & without.keys(), f"without a lease: {without.keys()}"
    assert objects.keys() - without.keys() == manifests.keys(), f"with a lease: {objects.keys()}"
    for kind, manifest in manifests.items():
        chart = values_from_yaml(objects[kind])
        if kind != "ServiceAccount":
            # Kustomize sets it.
            manifest["metadata"]["namespace"] = "evenkeel"
        check_same(kind, manifest, chart)
    # The one patch, put into the pod by hand.
    expected = values_from_yaml(without["Deployment"])
    pod = expected["spec"]["template"]["spec"]
    for change in values_from_yaml("all:\n" + component["patches"][0]["patch"])["all"]:
        pod[change["path"].removeprefix("/spec/template/spec/")] = change["value"]
    check_same("Deployment", expected, values_from_yaml(objects["Deployment"]))


def lines(value):
    return json.dumps(comparable(value), indent=2, sort_keys=True).splitlines()


def comparable(value):
    if isinstance(value, dict):
        kept = {key: comparable(inner) for key, inner in value.items() if key not in OF_THE_RELEASE}
        if "evenkeel.toml" in kept:
            kept["evenkeel.toml"] = tomllib.loads(kept["evenkeel.toml"])
        return kept
    return [comparable(inner) for inner in value] if isinstance(value, list) else value


def check_observes(objects):
    assert tomllib.loads(config(objects))["schedule"]["mode"] == "observe", config(objects)
    notes = objects["NOTES.txt"]
    assert "config.schedule.mode=act" in notes, f"the notes say how to switch: {notes}"


def check_trusts(chart, ca_file, values):
    """Commands in a pod that serves TLS know whom to trust, and in one that does not nobody is named."""
    def environment(values):
        pod = values_from_yaml(render(chart, values)["Deployment"])["spec"]["template"]["spec"]
        return {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}

    tls = {"config": {"http": {"tls": {"cert_file": "/tls/tls.crt", "key_file": "/tls/tls.key"}}}}
    assert environment(values | tls).get("EVENKEEL_CA_FILE") == ca_file, environment(values | tls)
    assert "EVENKEEL_CA_FILE" not in environment(values), environment(values)


def check_refused(chart, values):
    try:
        chart.render(values)
    except HelmError:
        return
    raise AssertionError(f"the chart takes {values}")


main(pathlib.Path(sys.argv[1]))
