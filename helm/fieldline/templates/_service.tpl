{{- define "fieldline.labels" -}}
app.kubernetes.io/name: fieldline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "fieldline.image" -}}
{{ .root.Values.image.repository }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* What every pod of this chart may and may not do. */}}
{{- define "fieldline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fieldline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "fieldline.token" -}}
{{ .root.Values.secrets.token | default (printf "%s-token" .root.Release.Name) }}
{{- end }}

{{/* What a service has mounted beside the settings, and the pod that it is in. */}}
{{- define "fieldline.wants" -}}
{{- $service := index .root.Values.services .root.Values.role .name -}}
{{- if $service.volume }}
volume: true
{{- end }}
{{- if eq .name "viewer" }}
token: true
{{- end }}
{{- if and .root.Values.secrets.enrolment (eq .root.Values.role "edge") (has .name (list "link" "mirror" "viewer")) }}
enrolment: true
{{- end }}
{{- end }}

{{- define "fieldline.mounts" -}}
- {name: config, mountPath: /etc/fieldline/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.secrets.certificates }}
- {name: certificates, mountPath: /etc/fieldline/certs, readOnly: true}
{{- end }}
{{- if and .volume .root.Values.volume.enabled }}
- {name: volume, mountPath: /var/lib/fieldline}
{{- end }}
{{- if .token }}
- {name: token, mountPath: /etc/fieldline/token, readOnly: true}
{{- end }}
{{- if .enrolment }}
- {name: enrolment, mountPath: /etc/fieldline/enrolment, readOnly: true}
{{- end }}
{{- end }}

{{- define "fieldline.volumes" -}}
- name: config
  configMap: {name: {{ .root.Release.Name }}-config}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .root.Values.secrets.certificates }}
- name: certificates
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if and .volume .root.Values.volume.enabled }}
- name: volume
  persistentVolumeClaim: {claimName: {{ .root.Release.Name }}-volume}
{{- end }}
{{- if .token }}
- name: token
  secret: {secretName: {{ include "fieldline.token" . }}, defaultMode: 0440}
{{- end }}
{{- if .enrolment }}
- name: enrolment
  secret: {secretName: {{ .root.Values.secrets.enrolment }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "fieldline.environment" -}}
env:
  - {name: CONFIG_FILE, value: /etc/fieldline/config/site.toml}
  # Inside the cluster the viewer is called by the name of its Service; a port-forward calls it localhost.
  - {name: VIEWER__LISTEN, value: "0.0.0.0:8080"}
  - {name: VIEWER__ALLOW_REMOTE, value: "true"}
  - {name: VIEWER__ALLOWED_HOSTS, value: "localhost,{{ .root.Release.Name }}-viewer"}
  - {name: DEPOT__LISTEN, value: "0.0.0.0:7443"}
{{- if .token }}
  - {name: VIEWER__TOKEN_FILE, value: /etc/fieldline/token/token}
{{- end }}
{{- $catalogue := (.root.Values.config.feed | default dict).catalogue | default "" }}
{{- if and (eq .root.Values.role "core") (or (hasPrefix "sample:" $catalogue) (hasPrefix "dir:" $catalogue)) }}
  # What the feed announces it serves itself, to the downloader.
  - {name: FEED__SERVE, value: "0.0.0.0:8090"}
  - {name: FEED__PUBLIC_URL, value: "http://{{ .root.Release.Name }}-feed:8090/"}
  - {name: DOWNLOADER__ALLOW, value: "{{ append ((.root.Values.config.downloader | default dict).allow | default list) (printf "%s-feed:8090" .root.Release.Name) | join "," }}"}
{{- end }}
{{- if eq .root.Values.role "edge" }}
{{- if .root.Values.secrets.enrolment }}
  - {name: COMMON__ENROLMENT, value: /etc/fieldline/enrolment/site.enrolment}
{{- else if and .root.Values.volume.enabled (not .root.Values.config.common.enrolment) }}
  # Where the page's Set-up keeps it.
  - {name: COMMON__ENROLMENT, value: /var/lib/fieldline/site.enrolment}
{{- end }}
{{- if .root.Values.volume.enabled }}
  # What was spent of a day's and a month's bytes outlives the pod.
  - {name: LINK__STATE, value: /var/lib/fieldline/link}
{{- end }}
  # On the loopback of the pod that link and mirror share: nobody else reaches the door, and both keep to one budget.
  - {name: LINK__DOOR__LISTEN, value: "127.0.0.1:7450"}
  - {name: MIRROR__DOOR, value: "127.0.0.1:7450"}
{{- with (.root.Values.config.mirror | default dict).depot }}
  # A depot that the settings name; that of an enrolment, link knows itself.
  {{- $host := (urlParse .).host }}
  - {name: LINK__DOOR__ALLOW, value: "{{ $host }}{{ if not (regexMatch ":[0-9]+$" $host) }}:443{{ end }}"}
{{- end }}
{{- end }}
{{- end }}

{{- define "fieldline.environmentFrom" -}}
{{- with .root.Values.secrets.environment }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}
