// What upstream's own code says: one JSON value a line on standard input, an answer a line on standard output.
//
//	oracle pods            a Pod: the fields that the kubelet finds wrong in a file; null if it can't be read at all
//	oracle configurations  a KubeletConfiguration: why the kubelet doesn't start with it, or ""
//	oracle rows            a Pod: the cells of `kubectl get pods -o wide`
//	oracle descriptions    a Pod: `kubectl describe pod` without events
//	oracle selectors       [selector, labels]: whether they match, or null where it can't be read
//	oracle quantities      a text: as the API writes it, or null
//	oracle cpus            [[socket, node, core] of each CPU, free CPUs, how many]: what the static policy gives, or null
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubectl/pkg/describe"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	configvalidation "k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/printers"
	"k8s.io/kubernetes/pkg/printers/internalversion"
	"k8s.io/utils/cpuset"
)

func pods(line []byte) any {
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), line)
	if err != nil {
		return nil
	}
	pod := object.(*api.Pod)
	pod.Namespace, pod.Spec.NodeName = orElse(pod.Namespace, "default"), "node"
	found := []string{}
	options := podutil.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
	for _, each := range validation.ValidatePodCreate(pod, options) {
		found = append(found, each.Field)
	}
	// Of what static pods may not refer to, only this has no other way to come to a node by itself.
	if len(pod.Spec.ResourceClaims) > 0 {
		found = append(found, "spec.resourceClaims")
	}
	return found
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func configurations(line []byte) any {
	_, codecs, err := scheme.NewSchemeAndCodecs(serializer.EnableStrict)
	if err != nil {
		return err.Error()
	}
	object, err := runtime.Decode(codecs.UniversalDecoder(), line)
	if err != nil {
		return err.Error()
	}
	config := object.(*kubeletconfig.KubeletConfiguration)
	gates := utilfeature.DefaultMutableFeatureGate.DeepCopy()
	if err := gates.SetFromMap(config.FeatureGates); err != nil {
		return err.Error()
	}
	if err := configvalidation.ValidateKubeletConfiguration(config, gates); err != nil {
		return err.Error()
	}
	return ""
}

var tables = printers.NewTableGenerator().With(internalversion.AddHandlers)

func rows(line []byte) any {
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), line)
	if err != nil {
		return nil
	}
	list := &api.PodList{Items: []api.Pod{*object.(*api.Pod)}}
	table, err := tables.GenerateTable(list, printers.GenerateOptions{Wide: true})
	if err != nil {
		return nil
	}
	cells := []string{}
	for _, cell := range table.Rows[0].Cells {
		cells = append(cells, fmt.Sprint(cell))
	}
	return cells
}

func descriptions(line []byte) any {
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(corev1.SchemeGroupVersion), line)
	if err != nil {
		return nil
	}
	pod := object.(*corev1.Pod)
	describer := describe.PodDescriber{Interface: fake.NewSimpleClientset(pod)}
	text, err := describer.Describe(pod.Namespace, pod.Name, describe.DescriberSettings{})
	if err != nil {
		return nil
	}
	return text
}

func selectors(line []byte) any {
	var text string
	var set labels.Set
	if json.Unmarshal(line, &[]any{&text, &set}) != nil {
		return nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil
	}
	return selector.Matches(set)
}

func quantities(line []byte) any {
	var text string
	if json.Unmarshal(line, &text) != nil {
		return nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return nil
	}
	return quantity.String()
}

func cpus(line []byte) any {
	var places [][3]int
	var free []int
	var count int64
	if json.Unmarshal(line, &[]any{&places, &free, &count}) != nil {
		return nil
	}
	topo := &topology.CPUTopology{NumCPUs: len(places), CPUDetails: topology.CPUDetails{}}
	cores, first := map[[2]int]int{}, 0
	for cpu, place := range places {
		core, known := cores[[2]int{place[0], place[2]}]
		if first = core; !known {
			first = cpu
			cores[[2]int{place[0], place[2]}] = cpu
		}
		topo.CPUDetails[cpu] = topology.CPUInfo{SocketID: place[0], NUMANodeID: place[1], CoreID: first}
	}
	topo.NumCores, topo.NumSockets = len(cores), topo.CPUDetails.Sockets().Size()
	topo.NumNUMANodes = topo.CPUDetails.NUMANodes().Size()
	logger := logr.Discard()
	policy, err := cpumanager.NewStaticPolicy(
		logger, topo, 0, cpuset.New(), topologymanager.NewFakeManager(), map[string]string{})
	if err != nil {
		return nil
	}
	given := state.NewMemoryState(logger)
	given.SetDefaultCPUSet(cpuset.New(free...))
	amounts := corev1.ResourceList{
		corev1.ResourceCPU: *resource.NewQuantity(count, resource.DecimalSI), corev1.ResourceMemory: resource.MustParse("1Mi")}
	container := corev1.Container{
		Name: "app", Resources: corev1.ResourceRequirements{Requests: amounts, Limits: amounts}}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container}}}
	if err := policy.Allocate(logger, given, pod, &container); err != nil {
		return nil
	}
	own, _ := given.GetCPUSet("", "app")
	return own.List()
}

// answer gives null for what upstream's code falls over.
func answer(ask func([]byte) any, line []byte) (found any) {
	defer func() { _ = recover() }()
	return ask(line)
}

func main() {
	time.Local = time.UTC
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
	ask := map[string]func([]byte) any{
		"pods": pods, "configurations": configurations, "rows": rows, "descriptions": descriptions,
		"selectors": selectors, "quantities": quantities, "cpus": cpus,
	}[os.Args[1]]
	lines := bufio.NewReaderSize(os.Stdin, 1<<24)
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			if err := answers.Encode(answer(ask, line)); err != nil {
				panic(err)
			}
		}
		if err != nil {
			return
		}
	}
}
