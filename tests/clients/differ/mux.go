// A registry in miniature on Go's net/http: it writes down what ServeMux and the URL say of each request.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"sync"
)

const config = "{}"
const manifestType = "application/vnd.oci.image.manifest.v1+json"

var (
	manifest = fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		manifestType, digest(config), len(config))
	uploads = regexp.MustCompile(`(?s)^/v2/(.+)/blobs/(uploads)(?:/(.*))?$`)
	named   = regexp.MustCompile(`(?s)^/v2/(.+)/(manifests|blobs|referrers)/([^/]+)$`)
	tags    = regexp.MustCompile(`(?s)^/v2/(.+)/(tags)/(list)$`)
)

type acted struct {
	Method    string   `json:"method"`
	Raw       string   `json:"raw"`
	Path      string   `json:"path"`
	RawPath   string   `json:"raw_path"`
	Pattern   string   `json:"pattern"`
	Name      string   `json:"name"`
	Noun      string   `json:"noun"`
	Reference string   `json:"reference"`
	From      []string `json:"from"`
	Status    int      `json:"status"`
}

type watched struct {
	http.ResponseWriter
	status int
}

func (w *watched) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// meaning is what a registry with a router by regular expressions, as most are, makes of a path.
func meaning(path string) (name, noun, reference string) {
	for _, route := range []*regexp.Regexp{uploads, tags, named} {
		if found := route.FindStringSubmatch(path); found != nil {
			return found[1], found[2], found[3]
		}
	}
	return "", "", ""
}

func answer(w http.ResponseWriter, r *http.Request) {
	_, noun, reference := meaning(r.URL.Path)
	reads := r.Method == "GET" || r.Method == "HEAD"
	switch {
	case r.URL.Path == "/v2/":
		fmt.Fprint(w, "{}")
	case noun == "manifests" && reads && (len(reference) < 64 || reference == digest(manifest)):
		w.Header().Set("Content-Type", manifestType)
		w.Header().Set("Docker-Content-Digest", digest(manifest))
		w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
		io.WriteString(w, manifest)
	case noun == "blobs" && reads && reference == digest(config):
		w.Header().Set("Docker-Content-Digest", reference)
		io.WriteString(w, config)
	case noun == "tags":
		io.WriteString(w, `{"tags":[]}`)
	case noun == "uploads" && !reads:
		w.WriteHeader(http.StatusAccepted)
	default:
		http.NotFound(w, r)
	}
}

func main() {
	file, err := os.OpenFile(os.Args[4], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	// Before Go 1.22 a pattern with braces is a path that nobody asks for.
	for _, name := range []string{"{a}", "{a}/{b}"} {
		for _, end := range []string{"manifests/{ref}", "blobs/{ref}", "referrers/{ref}", "tags/list"} {
			mux.HandleFunc("/v2/"+name+"/"+end, answer)
		}
	}
	mux.HandleFunc("/v2/", answer)
	mux.HandleFunc("/", answer)
	var lock sync.Mutex
	write := json.NewEncoder(file)
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &watched{w, http.StatusOK}
		_, pattern := mux.Handler(r)
		io.Copy(io.Discard, r.Body)
		mux.ServeHTTP(seen, r)
		name, noun, reference := meaning(r.URL.Path)
		lock.Lock()
		defer lock.Unlock()
		write.Encode(acted{r.Method, r.RequestURI, r.URL.Path, r.URL.RawPath, pattern, name, noun, reference,
			r.URL.Query()["from"], seen.status})
	})
	log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], all))
}
